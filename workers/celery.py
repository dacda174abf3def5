"""The Celery application: `celery -A workers worker` and every other process start here.

Celery reads its configuration when it first needs it, not when this module is imported, so that a command line can
still name an `overnight.toml`.
"""

import logging
import re
from functools import partial
from importlib import import_module
from typing import Any, ClassVar

from celery import Celery, signals
from celery.loaders.app import AppLoader

from limits.client.connection import TIMEOUTS, timeouts
from limits.keys import Keys
from workers import plain_text
from workers.config.current import current_settings
from workers.config.settings import Settings
from workers.embedded import celery_url, server_url
from workers.event_batches import EventBatches
from workers.heartbeat import Heartbeat
from workers.pool.bridge import call_blocking
from workers.pool.coroutine import CoroutineTask
from workers.pool.last_resort import LastResort
from workers.pool.soft_shutdown import SoftShutdown
from workers.transport import channel, compression, follow_queues, queues, rabbitmq

#: The user and password of a URL anywhere in a text.
_CREDENTIALS = re.compile(r"(\w://[^\s:/@'\"]*):[^\s@'\"]+@")


def configuration() -> dict[str, Any]:
    """Celery's settings, each with its reason."""
    settings = current_settings()
    url = server_url(settings)
    keys = Keys(settings.namespace)
    return {
        "broker_url": settings.broker_url or celery_url(url),
        "result_backend": celery_url(url),
        "broker_connection_retry_on_startup": True,
        "imports": (
            "tasks.jobs.messages",
            "tasks.agents.runner",
            "tasks.batches.dead_letters",
            "tasks.batches.ticker",
            "tasks.batches.webhooks",
            "tasks.monitoring.setup",
            "tasks.startup",
        ),
        # Acknowledge a message when its job has ended; put it back if its process is killed.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # No other process can run what one has claimed: claim only what can run now.
        "worker_prefetch_multiplier": 1,
        # A dropped connection says nothing about the calls in flight: let them finish, so they are paid for once.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # The transport counts messages in flight across connections; Celery's correction would count them twice.
        "worker_enable_prefetch_count_reduction": False,
        # Never read anything from a queue that could execute code.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        # A result that cannot be stored would be lost with its message. So wait for the server, even if it is busy with
        # a script, out of memory, or its user lacks a permission.
        "result_backend_transport_options": {
            "retry_policy": {"max_retries": None, "interval_start": 0, "interval_step": 0.5, "interval_max": 5.0},
            "additional_connection_errors": ("redis.exceptions.ResponseError",),
        },
        # No connection waits for ever for a silent server.
        "redis_socket_timeout": TIMEOUTS["socket_timeout"],
        "redis_socket_connect_timeout": TIMEOUTS["socket_connect_timeout"],
        "redis_socket_keepalive": "socket_keepalive" in timeouts(url),
        "redis_backend_health_check_interval": channel.HEALTH_CHECK_EVERY,
        # An error reply is temporary (the server is busy or short of memory) and must not stop a worker.
        "broker_channel_error_retry": True,
        # Results are private: drop those that no producer fetched.
        "result_expires": 24 * 3600,
        "task_default_queue": queues.queue_name("default"),
        # A call mostly waits, for seconds: one process makes many at a time.
        "worker_pool": "workers.pool.pool:TaskPool",
        "worker_concurrency": 100,
        "worker_stop_grace_period": settings.stop_grace_period,
        # Anyone who reaches the broker can send these commands; workers/remote_control.py limits what they do.
        "worker_enable_remote_control": settings.remote_control,
        # Makes a dead letter of a message that it cannot run, instead of printing or losing it.
        "worker_consumer": "workers.consumer:Consumer",
        # Workers follow the registry's queues; a message to an unknown queue creates it.
        "task_create_missing_queues": True,
        # There may be several beats: another takes over within half a minute (RedBeat's default: 25 minutes).
        "beat_scheduler": "tasks.schedules.beat:OvernightScheduler",
        "beat_max_loop_interval": 5,
        "redbeat_lock_timeout": 25,
        "redbeat_redis_url": url,
        "redbeat_redis_options": timeouts(url),
        "redbeat_key_prefix": keys.redbeat,
        "redbeat_lock_key": keys.redbeat + "lock",
        **(rabbitmq.configuration() if rabbitmq.is_amqp(settings) else _redis(settings)),
    }


def _redis(settings: Settings) -> dict[str, Any]:
    """The options of workers/transport/channel.py."""
    return {
        "broker_transport_options": {
            # Two namespaces on one server keep their messages apart.
            "namespace": settings.namespace,
            "global_keyprefix": queues.key_prefix(settings.namespace),
            # Workers send a heartbeat every third of it.
            "visibility_timeout": settings.visibility_timeout,
            # A command on a dead connection fails early enough for a heartbeat over another one.
            **TIMEOUTS,
            # Claims and subscriptions only listen: kombu checks their connections, and drops one after two checks
            # without an answer.
            "health_check_interval": channel.HEALTH_CHECK_EVERY,
        }
    }


class Application(Celery):  # type: ignore[misc]  # Celery has no types
    """Celery, but tasks don't block the event loop of other tasks when they publish or store results."""

    def send_task(self, *args: Any, **options: Any) -> Any:
        """Publish a task; in a thread if called on the event loop."""
        return call_blocking(super().send_task, *args, **options)

    def bugreport(self) -> str:
        """What `celery report` and `inspect report` print, without passwords in URLs."""
        return _CREDENTIALS.sub(r"\1:**@", str(super().bugreport()))

    def _get_backend(self) -> Any:
        backend = super()._get_backend()
        for name in ("store_result", "mark_as_failure", "mark_as_revoked", "on_chord_part_return", "apply_chord"):
            setattr(backend, name, partial(call_blocking, getattr(backend, name)))
        return backend


class Loader(AppLoader):  # type: ignore[misc]  # Celery has no types
    """Celery's loader, but installed modules come before those in the working folder, even for Overnight's own."""

    override_backends: ClassVar = dict.fromkeys(("redis", "rediss"), "workers.result_backend:Backend")

    def import_from_cwd(self, module: str, imp: Any = None, package: Any = None) -> Any:
        """Import an installed module if there is one, else the one in the working folder."""
        try:
            return (imp or import_module)(module, package=package)
        except ModuleNotFoundError as exc:
            if exc.name != module.partition(".")[0]:
                raise
            return super().import_from_cwd(module, imp=imp, package=package)


@signals.after_setup_logger.connect  # type: ignore[untyped-decorator]  # Celery has no types
@signals.after_setup_task_logger.connect  # type: ignore[untyped-decorator]  # as above
def _plain_logs(logger: logging.Logger, **_: Any) -> None:
    plain_text.install(logger)


channel.register()
compression.bound()
app = Application("overnight", task_cls=CoroutineTask, loader=Loader)
app.add_defaults(configuration)
app.steps["consumer"].update((follow_queues.FollowQueues, EventBatches, Heartbeat))
app.steps["worker"].update((SoftShutdown, LastResort))
