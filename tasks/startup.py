"""What a worker loads before it takes its first job, so that this one does not wait for it.

The agents: what is wrong with one of their modules is told at once, in words. The providers' HTTP clients: they take
0.2 s to import, which no other process should wait for. Their sessions: certificates take 50 ms to load. The tokenizer,
where it is installed: before the prefork pool forks, so that its processes share most of it.
"""

import asyncio
import sys
from importlib import import_module
from typing import Any

from celery.signals import worker_init, worker_ready

from tasks.agents import registry
from tasks.runtime import Runtime
from workers import tokens
from workers.celery import current_settings
from workers.loop import EventLoop
from workers.settings import SettingsError

#: The exit status of a wrong configuration, as the command line has it.
_WRONG = 2


@worker_init.connect  # type: ignore[untyped-decorator]  # Celery has no types
def load(**_: Any) -> None:
    """Import every agent and every wire format that is configured; the worker ends where that cannot be done.

    The tokenizer, too, without which it goes on.
    """
    try:
        settings = current_settings()
        registry.load(settings)
    except SettingsError as exc:
        sys.stderr.write(f"{exc}\n")
        sys.stderr.flush()
        raise SystemExit(_WRONG) from None
    for api in sorted({provider.api for provider in settings.providers.values()}):
        import_module(f"workers.providers.{api}")
    tokens.warm()


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
