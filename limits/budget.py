"""A budget: what may be spent, in nano-dollars, within a window.

What a call may cost at most is *held* from its admission on; settling turns it into what it did cost,
*spent*. spent + held <= limit at every admission, in every window that the call falls into. Held money ends
with the reservation's lease: given back if the call was never sent, else spent as presumed, for a provider
bills a client that hung up.
"""

from dataclasses import dataclass
from typing import Final

from limits.bucket import LARGEST
from limits.errors import InvalidQuota

NANO: Final = 1_000_000_000
"""n$ in a dollar. $0.01 per million tokens is 10 n$ a token, which micro-dollars would round away."""


@dataclass(frozen=True, slots=True)
class BudgetWindow:
    """The current window of a budget and the next one; the script picks by the server's time of the
    admission.

    `limit` in n$. `window` and `next_window` name the two, for example "2026-11-24" and "2026-11-25";
    `until` is the boundary between them in µs since the epoch. A budget that never turns has `until = 0`
    and no next window.
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
            raise InvalidQuota(f"budget of {self.subject}: a window that turns needs both its end and the next one.")
