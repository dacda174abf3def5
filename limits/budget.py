"""A budget: what may be spent within a window, in nano-dollars.

From its admission on, the most that a call can cost is *held*. Settling replaces that by what the call did cost, which
is *spent*. At every admission spent + held <= limit, in every window that the call falls into. When a reservation's
lease ends, its held money is given back if the call was not sent. If it was sent, the money counts as spent, because
providers also bill clients that hang up.
"""

from dataclasses import dataclass
from typing import Final

from limits.bucket import LARGEST
from limits.errors import InvalidQuota

NANO: Final = 1_000_000_000
"""n$ in a dollar. $0.01 per million tokens is 10 n$ a token, which micro-dollars would round away."""


@dataclass(frozen=True, slots=True)
class BudgetWindow:
    """The current window of a budget and the next one. The script picks one by the server's time.

    - `subject`: the budget's name.
    - `limit`: n$.
    - `window`, `next_window`: their names, such as "2026-11-24" and "2026-11-25".
    - `until`: when the next one begins, in µs since the epoch; 0 if the budget has only one window.
    """

    subject: str
    limit: int
    window: str
    until: int = 0
    next_window: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.limit < LARGEST:
            raise InvalidQuota(
                f"budget of {self.subject}: {self.limit} n$ is not between 0 and 2^53 (about $9 million)."
            )
        if (self.until > 0) != bool(self.next_window):
            raise InvalidQuota(f"budget of {self.subject}: a window that ends needs its end and the next one's name.")
