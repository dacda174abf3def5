"""Durations, dollars and counts as `overnight.toml` may write them. A ValueError says what would be right."""

import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any

from limits.budget import NANO

#: Redis and Lua count in doubles, which are exact for whole numbers up to here.
LARGEST = 2**53

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw])")
_DURATION = re.compile(rf"(?:{_PART.pattern}\s*)+")


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number. True and False don't count."""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool) and math.isfinite(value)


def whole(value: Any, smallest: int, largest: int = 10**12) -> int:
    """A whole number from `smallest` to `largest`."""
    if isinstance(value, int) and not isinstance(value, bool) and smallest <= value <= largest:
        return value
    above = f"{smallest - 1} and at most {largest:,}" if _above(value, largest) else str(smallest - 1)
    raise ValueError(f"must be a whole number above {above}" if smallest else "must be a whole number, 0 or above")


def number(value: Any, largest: float) -> float:
    """A number above 0, at most `largest`."""
    if is_number(value) and 0 < value <= largest:
        return float(value)
    raise ValueError(f"must be a number above 0, at most {largest:,.0f}")


def seconds(value: Any, largest: float) -> float:
    """Seconds above 0, written as a number or as a duration such as `24h`, `1h30m`, `7d`."""
    expected = f'must be a number of seconds above 0 or a duration such as "90s", "45m", "24h", "7d", {_days(largest)}'
    if isinstance(value, str) and _DURATION.fullmatch(value.strip()):
        total = sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(value))
    elif is_number(value):
        total = float(value)
    else:
        raise ValueError(expected)
    if not 0 < total <= largest:
        raise ValueError(expected)
    return total


def dollars(value: Any) -> Decimal:
    """US dollars, 0 or above, exact to the nano-dollar, at most 2**53 of them."""
    if not (is_number(value) or isinstance(value, str)):
        raise ValueError("must be an amount in US dollars, such as 25.0")
    try:
        # Through str, so that 0.1 is a tenth and not the double next to it.
        amount = Decimal(str(value))
    except InvalidOperation:
        raise ValueError("must be an amount in US dollars, such as 25.0") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError("must be an amount in US dollars, 0 or above")
    if amount * NANO > LARGEST:
        raise ValueError(f"must be at most {LARGEST // NANO:,} US dollars, the largest that is counted exactly")
    if amount * NANO % 1:
        raise ValueError("must have at most nine decimals: money is counted in billionths of a US dollar")
    return amount


def budget(value: Any) -> Decimal:
    """US dollars above 0."""
    amount = dollars(value)
    if not amount:
        raise ValueError("must be above 0; leave the key out for no limit")
    return amount


def nanodollars(amount: Decimal) -> int:
    """The amount in whole nano-dollars."""
    return int(amount * NANO)


def _above(value: Any, largest: int) -> bool:
    return isinstance(value, int) and value > largest


def _days(largest: float) -> str:
    days = largest / 86_400
    return f"at most {days:g} day{'s' if days != 1 else ''}"
