"""Whether a batch fits into its budgets, before anything is sent."""

import math
import time

from limits.budget import NANO
from limits.snapshot import BudgetState, snapshot
from tasks.batches.estimate import Forecast
from tasks.batches.store import Store
from workers.config.settings import Settings
from workers.models import budgets


def outlook(settings: Settings, store: Store, workflow: str, forecast: Forecast) -> list[str]:
    """A sentence for each budget that is too small for the batch; empty if it fits."""
    if forecast.cost is None:
        return []
    over = budgets.windows(settings, workflow, "estimate", time.time())
    state = store.server.run(snapshot(store.keys, budgets=over))
    kinds = {"all": settings.budget_window}
    return [
        words
        for budget in state.budgets
        if (words := _outlook(budget, kinds.get(budget.subject, settings.workflow(workflow).budget_window), forecast))
    ]


def _outlook(budget: BudgetState, kind: str, forecast: Forecast) -> str:
    cost = forecast.cost or 0
    left = max(0, budget.limit - budget.spent - budget.held)
    if cost <= left:
        return ""
    whose = "the budget over everything" if budget.subject == "all" else "the workflow's budget"
    has = f"{whose} has ${left / NANO:,.2f} left of ${budget.limit / NANO:,.2f}"
    part = left / cost
    if kind not in {"day", "month"} or not budget.limit:
        return f"{has}: it is enough for about {part:.0%} of the jobs"
    more = math.ceil((cost - left) / budget.limit)
    return f"{has} a {kind}: the jobs would take {more} more {kind}{'s' if more != 1 else ''}"
