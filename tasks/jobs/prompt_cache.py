"""Calls that find what an earlier call has put into a provider's prompt cache.

A cache belongs to an account, so jobs with the same prefix prefer the same one (`Routes.order`): if its quota is used
up, another takes the call. OpenAI and Azure get a `prompt_cache_key`, which leads to the same machine.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tasks.jobs.job import Job
from workers.config.settings import Settings
from workers.models.routing import Route
from workers.providers.prompt_prefix import CACHE_KEY, prefix_of


def prefix(settings: Settings, job: Job) -> str:
    """The job's prefix; '' if its workflow doesn't use prompt caches, or it shares nothing."""
    return prefix_of(job.line.url, job.line.body) if settings.workflow(job.workflow).prompt_cache else ""


def keyed(
    bodies: Mapping[str, dict[str, Any]], routes: Iterable[Route], settings: Settings, prefix: str
) -> dict[str, dict[str, Any]]:
    """The bodies by target, with a `prompt_cache_key` for each provider that takes one."""
    takes = {route.target for route in routes if settings.providers[route.provider].takes_cache_key}
    return {target: {CACHE_KEY: prefix, **body} if target in takes else dict(body) for target, body in bodies.items()}
