"""Whether prompt caches can save a batch anything, before anything is sent."""

from tasks.batches.estimate import Tally
from workers.models.prices import Rates

#: Targets that are named.
SHOWN = 3


def cache_outlook(tally: Tally) -> list[str]:
    """A sentence if the workflow uses prompt caches, and cached input costs no less at some targets."""
    if not tally.precheck.workflow.prompt_cache:
        return []
    routes = {route.target: route for group in tally.groups.values() for route in group.routes}
    without = sorted(target for target, route in routes.items() if not _is_cheaper(route.rates))
    if not without:
        return []
    names = ", ".join(without[:SHOWN]) + (", …" if len(without) > SHOWN else "")
    return [f"prompt_cache saves nothing at {names}, as far as known: cached_usd_per_mtok is the price of cached input"]


def _is_cheaper(rates: Rates | None) -> bool:
    return rates is not None and any(band.cached < band.input for band in rates.bands)
