"""Our pages in Flower. Each is rendered here, whole or as the part that a browser swaps in every few seconds."""

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
from tasks.monitoring.flower import cells, limit_rows, workflow_rows
from tasks.monitoring.flower.guard import is_loopback
from tasks.monitoring.flower.watch import Watch
from tasks.monitoring.snapshot import SystemSnapshot

log = logging.getLogger(__name__)


class Page(BaseHandler, ABC):  # type: ignore[misc]  # Flower has no types
    """A page of ours: a template around a part that refreshes itself."""

    tab = ""

    def initialize(self, watch: Watch) -> None:
        """Take over what all pages read from."""
        self.watch = watch

    @web.authenticated
    async def get(self) -> None:
        """The page, or with `?part` what changes of it."""
        part = self.get_argument("part", None) is not None
        trouble, values = "", {}
        try:
            system = await asyncio.get_running_loop().run_in_executor(None, self.watch.look)
            values = {**self.values(system), "as_of": cells.clock(system.at)}
        except (redis.RedisError, LimitsError) as exc:
            log.warning("no reading: %s", exc)
            trouble = "The Redis server does not answer; this page goes on by itself when it does."
        self.set_header("Cache-Control", "no-store")
        self.render(f"{self.tab}.part.html" if part else f"{self.tab}.html", trouble=trouble, values=values)

    @abstractmethod
    def values(self, system: SystemSnapshot) -> dict[str, Any]:
        """What the template shows."""

    def workers(self) -> int | None:
        """How many workers are alive, as far as their heartbeats tell; None before the first one was heard of."""
        known = list(self.application.events.state.workers.values())
        return sum(bool(worker.alive) for worker in known) if known else None


class Workflows(Page):
    """Workflows and batches: progress, pace, money, and what they wait for."""

    tab = "workflows"

    def values(self, system: SystemSnapshot) -> dict[str, Any]:
        """Cards, workflows, batches."""
        running = system.workers
        workers = self.workers() if running is None else running
        return {
            "cards": workflow_rows.workflow_cards(system, workers),
            "workflows": workflow_rows.workflow_rows(system, self.watch.settings, workers),
            "batches": workflow_rows.batch_rows(system, workers),
        }


class Limits(Page):
    """Quotas, pauses, circuits, latches and budgets."""

    tab = "limits"

    def values(self, system: SystemSnapshot) -> dict[str, Any]:
        """Cards, models, budgets."""
        return {
            "cards": limit_rows.limit_cards(system),
            "models": limit_rows.model_rows(system),
            "budgets": limit_rows.budget_rows(system),
        }


class Queues(BrokerView):  # type: ignore[misc]  # Flower has no types
    """Flower's page of the broker, with every workflow's queue: also those that no worker consumes."""

    def initialize(self, watch: Watch) -> None:
        """Take over what all pages read from."""
        self.watch = watch

    @web.authenticated
    async def get(self) -> None:
        """The page."""
        queues, trouble = [], ""
        try:
            system = await asyncio.get_running_loop().run_in_executor(None, self.watch.look)
            if system.queues is None:
                await super().get()  # Flower asks RabbitMQ, where --broker-api says how
                return
            queues = sorted(system.queues.items())
        except (redis.RedisError, LimitsError) as exc:
            log.warning("no reading: %s", exc)
            trouble = "The broker does not answer."
        self.render("queues.html", broker_url=self.application.broker_uri, queues=queues, trouble=trouble)


class NoAnswers(BaseHandler):  # type: ignore[misc]  # Flower has no types
    """In place of Flower's `/api/task/result/ID`, which gives the answer of a single job: answers are private."""

    @web.authenticated
    def get(self, task_id: str) -> None:
        """Say where answers are."""
        del task_id
        raise web.HTTPError(403, "answers are not shown here: the producer gets them with AsyncResult.get()")


class GuardedMetrics(Metrics):  # type: ignore[misc]  # Flower has no types
    """`/metrics`, Flower's and ours, behind Flower's own password, or a token of its own where people log in.

    Flower itself shows it to everyone.
    """

    def initialize(self, token: str) -> None:
        """Take over the token; '' for none."""
        self.token = token

    def prepare(self) -> None:
        """Let in who has the token or the password, or is on this machine's own port."""
        options = self.application.options
        given = self.request.headers.get("Authorization", "")
        if self.token and hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            return
        if options.basic_auth:
            self.get_current_user()  # answers 401 by itself
        elif options.auth or not (is_loopback(options.address) or options.unix_socket):
            raise web.HTTPError(401)

    async def get(self) -> None:
        """Everything that this process knows, in Prometheus' text format; Redis is read beside the loop."""
        self.application.purge_offline_worker_metrics()
        text = await asyncio.get_running_loop().run_in_executor(None, prometheus_client.generate_latest)
        self.set_header("Content-Type", prometheus_client.CONTENT_TYPE_LATEST)
        self.write(text)
