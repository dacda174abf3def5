"""Our pages in Flower. Each is rendered whole, or as the part that a browser replaces every two seconds."""

import asyncio
import hmac
import logging
from abc import ABC, abstractmethod
from typing import Any

import prometheus_client
import redis
from flower.views import BaseHandler
from flower.views.broker import BrokerView
from flower.views.monitor import Metrics
from tornado import web

from limits.errors import LimitsError
from tasks.monitoring.flower import cells, lane_rows, limit_rows, workflow_rows
from tasks.monitoring.flower.guard import is_loopback
from tasks.monitoring.flower.watch import Watch
from tasks.monitoring.snapshot import SystemSnapshot

log = logging.getLogger(__name__)


class Page(BaseHandler, ABC):  # type: ignore[misc]  # Flower has no types
    """A page of ours: a template around a part that refreshes itself."""

    tab = ""

    def initialize(self, watch: Watch) -> None:
        """Set the source of snapshots."""
        self.watch = watch

    @web.authenticated
    async def get(self) -> None:
        """Render the page, or with `?part` the part of it that changes."""
        part = self.get_argument("part", None) is not None
        trouble, values = "", {}
        try:
            system = await asyncio.get_running_loop().run_in_executor(None, self.watch.look)
            values = {**self.values(system), "as_of": cells.clock(system.at)}
        except (redis.RedisError, LimitsError) as exc:
            log.warning("no snapshot: %s", exc)
            trouble = "The Redis server does not answer. This page continues as soon as it does."
        self.set_header("Cache-Control", "no-store")
        self.render(f"{self.tab}.part.html" if part else f"{self.tab}.html", trouble=trouble, values=values)

    @abstractmethod
    def values(self, system: SystemSnapshot) -> dict[str, Any]:
        """The values of the template."""

    def workers(self) -> int | None:
        """The number of workers alive by their heartbeats; None before the first heartbeat."""
        known = list(self.application.events.state.workers.values())
        return sum(bool(worker.alive) for worker in known) if known else None


class Workflows(Page):
    """Workflows, batches and chunks: progress, throughput, money, and what they wait for."""

    tab = "workflows"

    def values(self, system: SystemSnapshot) -> dict[str, Any]:
        """Cards, workflows, batches, chunks."""
        running = system.workers
        workers = self.workers() if running is None else running
        return {
            "cards": workflow_rows.workflow_cards(system, workers),
            "workflows": workflow_rows.workflow_rows(system, self.watch.settings, workers),
            "batches": workflow_rows.batch_rows(system, workers),
            "chunks": lane_rows.chunk_rows(system),
        }


class Limits(Page):
    """Quotas, pauses, circuits, blocked accounts and budgets."""

    tab = "limits"

    def values(self, system: SystemSnapshot) -> dict[str, Any]:
        """Cards, models, budgets."""
        return {
            "cards": limit_rows.limit_cards(system),
            "models": limit_rows.model_rows(system),
            "budgets": limit_rows.budget_rows(system),
        }


class Queues(BrokerView):  # type: ignore[misc]  # Flower has no types
    """Flower's page of the broker, with every workflow's queue, also those that no worker consumes."""

    def initialize(self, watch: Watch) -> None:
        """Set the source of snapshots."""
        self.watch = watch

    @web.authenticated
    async def get(self) -> None:
        """Render the page."""
        queues, trouble = [], ""
        try:
            system = await asyncio.get_running_loop().run_in_executor(None, self.watch.look)
            if system.queues is None:
                await super().get()  # Flower asks RabbitMQ, if --broker-api is set
                return
            queues = sorted(system.queues.items())
        except (redis.RedisError, LimitsError) as exc:
            log.warning("no snapshot: %s", exc)
            trouble = "The broker does not answer."
        self.render("queues.html", broker_url=self.application.broker_uri, queues=queues, trouble=trouble)


class NoAnswers(BaseHandler):  # type: ignore[misc]  # Flower has no types
    """Replaces Flower's `/api/task/result/ID`, which returns a single job's answer: answers are private."""

    @web.authenticated
    def get(self, task_id: str) -> None:
        """Refuse, and say where answers are."""
        del task_id
        raise web.HTTPError(403, "answers are private: the producer reads them with AsyncResult.get()")


class GuardedMetrics(Metrics):  # type: ignore[misc]  # Flower has no types
    """`/metrics`, Flower's and ours. Asks for Flower's password, or for a token if Flower asks people to log in.

    Flower alone shows it to everyone.
    """

    def initialize(self, token: str) -> None:
        """Set the token; '' for none."""
        self.token = token

    def prepare(self) -> None:
        """Refuse unless the request has the token or the password, or Flower listens on this machine only."""
        options = self.application.options
        given = self.request.headers.get("Authorization", "")
        if self.token and hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            return
        if options.basic_auth:
            self.get_current_user()  # answers 401
        elif options.auth or not (is_loopback(options.address) or options.unix_socket):
            raise web.HTTPError(401)

    async def get(self) -> None:
        """Send all metrics in Prometheus' text format. Redis is read in a thread."""
        self.application.purge_offline_worker_metrics()
        text = await asyncio.get_running_loop().run_in_executor(None, prometheus_client.generate_latest)
        self.set_header("Content-Type", prometheus_client.CONTENT_TYPE_LATEST)
        self.write(text)
