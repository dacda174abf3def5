"""What a table's cells contain: bars, rates, moments."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from limits.snapshot import BudgetState, DimensionState
from tasks.monitoring.blockers import spent
from workers.figures import dollars, duration

_MINUTE: Final = 60

#: The fraction of a budget or quota from which on its bar is yellow.
_NEARLY: Final = 0.9


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar. `done` and `more` are fractions of the whole, in the colours `kind` and `more_kind`."""

    done: float
    more: float = 0.0
    kind: str = "primary"
    more_kind: str = "danger"
    words: str = ""


@dataclass(frozen=True, slots=True)
class Cards:
    """The four figures at the top of a page: label, value, and the kind of Flower's card."""

    figures: list[tuple[str, str, str]] = field(default_factory=list)


def dimension_bar(state: DimensionState) -> Bar:
    """How much of a dimension is in use now."""
    room = state.rate * state.burst
    used = min(1.0, max(0.0, 1 - state.available / room)) if room else 0.0
    kind = "danger" if used >= 1 else "warning" if used >= _NEARLY else "primary"
    return Bar(used, kind=kind, words=f"{used:.0%} of {state.limit:,}")


def money(state: BudgetState) -> Bar:
    """A budget's bar: spent, then held by calls in flight."""
    limit = max(state.limit, 1)
    used = state.spent / limit
    kind = "danger" if spent(state) else "warning" if used >= _NEARLY else "success"
    held = f" · {dollars(state.held)} held" if state.held else ""
    return Bar(
        min(1.0, used),
        min(state.held / limit, max(0.0, 1 - used)),
        kind=kind,
        more_kind="info",
        words=f"{dollars(state.spent)} of {dollars(state.limit)}{held}",
    )


def rate(per_second: float | None) -> str:
    """A rate in jobs a minute; `per_second` is None if it is unknown."""
    if per_second is None:
        return "—"
    a_minute = per_second * _MINUTE
    return f"{a_minute:,.0f}" if a_minute >= 10 or not a_minute else f"{a_minute:.1f}"  # noqa: PLR2004 - two digits


def eta(left: int, per_second: float | None) -> str:
    """The time that `left` jobs take at a rate; `per_second` is None if it is unknown."""
    if not left:
        return "now"
    return duration(left / per_second) if per_second else "—"


def clock(seconds: float) -> str:
    """The time of day, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S UTC")
