"""The cap on one job's spending: `max_usd` of its workflow, as hard as a budget.

A job runs in one process at a time, so the cap is kept in that process. Each call in flight holds the most it can
cost, and spent and held money together never exceed the cap.
"""

from dataclasses import dataclass, field


class OverCap(Exception):  # noqa: N818 - names what was found
    """A call could cost `amount`, and only `left` of `limit` is left; all in n$."""

    def __init__(self, amount: int, left: int, limit: int) -> None:
        super().__init__(amount, left, limit)
        self.amount = amount
        self.left = left
        self.limit = limit


@dataclass(slots=True)
class SpendingCap:
    """One job's money, in n$. `held` maps each call in flight to what it holds."""

    limit: int
    spent: int = 0
    held: dict[str, int] = field(default_factory=dict)

    def hold(self, call: str, amount: int) -> None:
        """Hold `amount` for a call, in place of what it held before. Raises OverCap if too little is left."""
        others = sum(held for name, held in self.held.items() if name != call)
        left = self.limit - self.spent - others
        if amount > left:
            raise OverCap(amount, max(left, 0), self.limit)
        self.held[call] = amount

    def pay(self, call: str, amount: int) -> None:
        """Record what a finished call has cost."""
        self.held.pop(call, None)
        self.spent += amount
