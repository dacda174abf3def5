"""The flex lane: live calls in a provider's cheaper and slower tier, until the deadline is too near.

The feed writes into a line's message until when it may wait (its batch's latest moment). A delivery takes the flex lane
if a flex call that fails at its timeout would still leave time for a live one. A line that names a service tier itself
is called in that tier.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from tasks.jobs.job import Job
from tasks.jobs.priced_routes import PricedRoutes
from tasks.jobs.state import JobState
from workers.models.routing import NoRoute, Route
from workers.models.tiers import FLEX
from workers.providers.endpoints import CHAT, RESPONSES
from workers.providers.errors import ProviderError, Refused

#: The urls of calls that have a service tier.
URLS: Final = frozenset({CHAT, RESPONSES})

#: Failed attempts after which a line goes live.
MAX_ATTEMPTS: Final = 2

#: Seconds for which a target's lines go live after it has refused the tier.
REFUSED_FOR: Final = 3_600.0

#: How a provider refuses a tier that a model or an account doesn't have.
_ABOUT_TIER: Final = re.compile(r"service[ _]?tier|\bflex\b", re.IGNORECASE)


async def in_lane(priced: PricedRoutes, refused: Mapping[str, float], job: Job, state: JobState) -> Job:
    """The job in the lane that this delivery takes. `refused`: by target, until when its lines go live (monotonic)."""
    if not job.flex_until or not may_carry(job, state):
        return job
    await priced.ready()
    try:
        routes = having_flex(priced.routes.find(job.line.model, job.line.url))
    except NoRoute:
        return job
    routes = [route for route in routes if refused.get(route.target, 0.0) < time.monotonic()]
    longest = max((priced.settings.providers[route.provider].flex_timeout for route in routes), default=0.0)
    return replace(job, lane=FLEX) if routes and time.time() + longest < job.flex_until else job


def may_carry(job: Job, state: JobState) -> bool:
    """Whether the flex lane could carry the job, if one of its targets has the tier and there is time."""
    line = job.line
    if line.agent or line.url not in URLS or line.body.get("service_tier") is not None:
        return False
    return not state.no_flex and state.attempts < MAX_ATTEMPTS


def having_flex(routes: Sequence[Route]) -> list[Route]:
    """The routes whose model has a flex tier."""
    return [route for route in routes if FLEX in route.tiers]


def at_tier(job: Job, routes: Sequence[Route], state: JobState) -> list[Route]:
    """The routes that the job may take, in the service tier that it asks for.

    In the flex lane, a target without the tier keeps its share of the calls, which are live.
    """
    if job.lane == FLEX and may_carry(job, state):
        return [route.at_tier(FLEX) if FLEX in route.tiers else route for route in routes]
    tier = job.line.tier
    return [route.at_tier(tier) for route in routes] if tier else list(routes)


def goes_live(refused: dict[str, float], route: Route, job: Job, error: ProviderError, state: JobState) -> bool:
    """Whether the provider refused the tier of the lane, and not the line. Then this line and the next ones go live.

    `refused`: as in `in_lane`.
    """
    if route.tier != FLEX or job.lane != FLEX or not isinstance(error, Refused):
        return False
    if _ABOUT_TIER.search(f"{error.code} {error.message}") is None:
        return False
    refused[route.target] = time.monotonic() + REFUSED_FOR
    state.no_flex = 1
    return True
