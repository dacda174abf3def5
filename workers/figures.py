"""Money and spans of time as people read them."""

from typing import Final

from limits.budget import NANO

#: n$ below which six digits after the point would show nothing, so that nine are shown.
_TINY: Final = 1_000

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def dollars(nano: int) -> str:
    """A sum in n$ as US dollars: two decimals from a dollar on, and as many as needed below."""
    usd = nano / NANO
    if usd >= 1 or not nano:
        return f"${usd:,.2f}"
    words = f"${usd:.{6 if abs(nano) >= _TINY else 9}f}".rstrip("0")
    return f"{words}00" if words.endswith(".") else words


def duration(seconds: float) -> str:
    """A span of time in its two largest units: 42 s, 3 min 20 s, 45 min, 2 h 05 min, 3 d 4 h."""
    whole = max(0, round(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < 10 * _MINUTE:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min"
    if whole < 2 * _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"
