"""What one job may spend: `max_usd` of its workflow, as hard as a budget.

A job runs in one process at a time, so its spending_cap is kept there: each call in flight holds the most that it can
cost, and what is spent and held together never passes the limit.
"""

from dataclasses import dataclass, field


class OverCap(Exception):  # noqa: N818 - names what was found
    """A call could cost `amount`, which is more than is `left` of the `limit`; all in n$."""

    def __init__(self, amount: int, left: int, limit: int) -> None:
        super().__init__(amount, left, limit)
        self.amount = amount
        self.left = left
        self.limit = limit


@dataclass(slots=True)
class SpendingCap:
    """The money of one job, in n$. `held` is by call."""

    limit: int
    spent: int = 0
    held: dict[str, int] = field(default_factory=dict)

    def hold(self, call: str, amount: int) -> None:
        """Hold the most that a call can cost, in place of what it held before; OverCap where too little is left."""
        others = sum(held for name, held in self.held.items() if name != call)
        left = self.limit - self.spent - others
        if amount > left:
            raise OverCap(amount, max(left, 0), self.limit)
        self.held[call] = amount

    def pay(self, call: str, amount: int) -> None:
        """A call has ended, and this is what it has cost."""
        self.held.pop(call, None)
        self.spent += amount
