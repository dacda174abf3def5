"""The connections of a worker's event loop, and what all jobs in flight share.

Redis has one connection, whose round trips are pooled. Each provider has one client, opened at its first call.
"""

import time
from typing import TYPE_CHECKING
from uuid import uuid4

from limits.client.async_connection import AsyncServer
from limits.client.connection import open_async_client
from limits.keys import Keys
from tasks.jobs.changed_settings import ChangedSettings
from tasks.jobs.job import Job
from tasks.jobs.leases import Leases
from tasks.jobs.pauses import Pauses
from tasks.jobs.priced_routes import PricedRoutes
from tasks.jobs.sizes import Sizes
from tasks.jobs.stops import Stops
from tasks.jobs.waitlists import Waitlists
from tasks.jobs.warming import Warming
from workers.config.settings import Settings
from workers.embedded import server_url
from workers.models.calibration import Ratios
from workers.models.routing import Routes
from workers.pool.pool import slots
from workers.providers import connect
from workers.providers.answer import Provider
from workers.transport.gates import gates

if TYPE_CHECKING:
    import asyncio


class Connections:
    """One event loop's connections and shared state."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lease = settings.visibility_timeout  # a job's lease ends when its message goes to another worker
        self.keys = Keys(settings.namespace)
        url = server_url(settings)
        self.server = AsyncServer(url)
        self.client = open_async_client(url)
        self.priced = PricedRoutes(settings, self.client, self.keys.prices)
        self.ratios = Ratios(self.keys.token_ratios)
        self.owner = uuid4().hex
        self.leases = Leases(self.server, self.keys, self.owner, self.lease)
        self.providers: dict[str, Provider] = {}
        self.gates = gates
        self.waitlists = Waitlists(slots)
        self.stops = Stops(self.server, self.keys, self.leases.batches)
        self.changed_settings = ChangedSettings(self.server, self.keys)
        self.changed_at = 0.0  # when these settings came into force, in monotonic seconds; 0: at the start
        self.retired: list[Provider] = []  # clients of earlier settings, which calls in flight may use
        self.pauses = Pauses(self.server, self.keys)
        self.sizes = Sizes()
        self.warming = Warming(self.client, self.keys)
        self.ceilings: dict[str, str] = {}  # by target: the name that it takes for an answer's ceiling, if learned
        self.flex_refused: dict[str, float] = {}  # by target: until when its lines go live, in monotonic seconds
        self.background: list[asyncio.Task[None]] = []

    @property
    def routes(self) -> Routes:
        """The routes of every model, at the prices known now."""
        return self.priced.routes

    def max_attempts(self, job: Job) -> int:
        """How many failures end the job."""
        return self.settings.workflow(job.workflow).max_attempts

    async def use(self, settings: Settings) -> None:
        """Use other settings from now on. Calls in flight keep theirs; connections to Redis stay as they are."""
        priced = PricedRoutes(settings, self.client, self.keys.prices)
        await priced.take_over()
        for name in list(self.providers):
            if settings.providers.get(name) != self.settings.providers.get(name):
                self.retired.append(self.providers.pop(name))
        self.settings, self.priced, self.changed_at = settings, priced, time.monotonic()
        self.gates.forget()
        self.waitlists.ask_now()

    def provider(self, name: str) -> Provider:
        """The provider's client. Raises SettingsError if its address is not configured."""
        found = self.providers.get(name)
        if found is None:
            settings = self.settings.providers[name]
            found = self.providers[name] = connect(
                name,
                settings.api,
                settings.base_url,
                settings.timeout,
                api_version=settings.api_version,
                counting=settings.counting_name,
                ignores_limits=settings.rate_limit_headers == "ignore",
            )
        return found
