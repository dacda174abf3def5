"""What a worker loads before its first job, so that no job waits for it.

Agents and checks  a faulty module is reported at once
HTTP clients       take 0.2 s to import, which other processes should not wait for
provider sessions  take 50 ms to load certificates
the tokenizer      if installed; loaded before the prefork pool forks, so that its processes share most of it
"""

import asyncio
import logging
import signal
import sys
import threading
from importlib import import_module
from typing import Any

import redis
from celery.signals import worker_init, worker_ready
from redis.backoff import NoBackoff
from redis.retry import Retry

from limits.client.connection import open_client
from limits.client.server_check import ClusterMode, check_server
from limits.errors import LimitsError
from tasks.agents import registry
from tasks.answers import own
from tasks.jobs.runtime import Runtime
from workers.config.current import ask_again, current_settings
from workers.config.settings import Settings, SettingsError
from workers.models import tokens
from workers.pool.loop import EventLoop
from workers.transport.rabbitmq import is_amqp

log = logging.getLogger(__name__)

#: The exit status of a wrong configuration, as in tasks/console/exit_status.py.
_WRONG = 2


@worker_init.connect  # type: ignore[untyped-decorator]  # Celery has no types
def load(**_: Any) -> None:
    """Import the configured agents, checks and wire formats, and the tokenizer if it is installed.

    Ends the worker if an agent or a check can't be imported or the Redis server is a cluster.
    """
    try:
        settings = current_settings()
        registry.load(settings)
        own.load(settings)
        _check_servers(settings)
    except (SettingsError, ClusterMode) as exc:
        sys.stderr.write(f"{exc}\n")
        sys.stderr.flush()
        raise SystemExit(_WRONG) from None
    for api in sorted({provider.api for provider in settings.providers.values()}):
        import_module(f"workers.providers.{api}")
    tokens.load_tokenizer()


def _check_servers(settings: Settings) -> None:
    """Log what is wrong with a server. Raises ClusterMode if nothing can work; an unreachable server may come back."""
    urls = {settings.redis_url, None if is_amqp(settings) else settings.broker_url}
    for url in filter(None, urls):
        try:
            with open_client(url, retry=Retry(NoBackoff(), 0)) as client:
                check_server(client)
        except ClusterMode:
            raise
        except (LimitsError, redis.RedisError) as exc:
            log.warning("%s", exc)


@worker_ready.connect  # type: ignore[untyped-decorator]  # Celery has no types
def warm_up(sender: Any, **_: Any) -> None:
    """Open the providers' sessions in the asyncio pool's loop."""
    place = getattr(sender.pool, "place", None)
    if isinstance(place, EventLoop):
        asyncio.run_coroutine_threadsafe(_warm_up(), place.loop)


@worker_ready.connect  # type: ignore[untyped-decorator]  # Celery has no types
def follow_the_file(**_: Any) -> None:
    """Read overnight.toml again on SIGHUP, instead of Celery's restart, which would cut off calls in flight."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, ask_again)


async def _warm_up() -> None:
    runtime = await Runtime.current()
    for name in runtime.settings.providers:
        await runtime.provider(name).open()
