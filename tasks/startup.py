"""What a worker loads before it takes its first job, so that this one does not wait for it.

The agents: what is wrong with one of their modules is told at once, in words. The providers' HTTP clients: they take
0.2 s to import, which no other process should wait for. Their sessions: certificates take 50 ms to load. The tokenizer,
where it is installed: before the prefork pool forks, so that its processes share most of it.
"""

import asyncio
import logging
import sys
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
from tasks.jobs.runtime import Runtime
from workers.config.current import current_settings
from workers.config.settings import Settings, SettingsError
from workers.models import tokens
from workers.pool.loop import EventLoop
from workers.transport.rabbitmq import is_amqp

log = logging.getLogger(__name__)

#: The exit status of a wrong configuration, as the command line has it.
_WRONG = 2


@worker_init.connect  # type: ignore[untyped-decorator]  # Celery has no types
def load(**_: Any) -> None:
    """Import every agent and every wire format that is configured; the worker ends if that cannot be done, or if
    its Redis server is a cluster.

    The tokenizer, too, without which it goes on.
    """
    try:
        settings = current_settings()
        registry.load(settings)
        _check_servers(settings)
    except (SettingsError, ClusterMode) as exc:
        sys.stderr.write(f"{exc}\n")
        sys.stderr.flush()
        raise SystemExit(_WRONG) from None
    for api in sorted({provider.api for provider in settings.providers.values()}):
        import_module(f"workers.providers.{api}")
    tokens.load_tokenizer()


def _check_servers(settings: Settings) -> None:
    """Say what is wrong with a server; ClusterMode if nothing can work. One that is away now is waited for later."""
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
    """Have the asyncio pool's loop make what its first job would wait for."""
    place = getattr(sender.pool, "place", None)
    if isinstance(place, EventLoop):
        asyncio.run_coroutine_threadsafe(_warm_up(), place.loop)


async def _warm_up() -> None:
    runtime = await Runtime.current()
    for name in runtime.settings.providers:
        await runtime.provider(name).open()
