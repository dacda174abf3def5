"""A worker follows changed settings, even if Redis fails in the middle of that."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from limits.errors import ServerUnavailable
from tasks.jobs import runtime as runtimes
from tasks.jobs.runtime import Runtime
from workers.config.settings import Settings


def test_settings_that_could_not_be_used_are_used_at_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = Settings(), Settings(budget_usd=5.0)
    monkeypatch.setattr(runtimes, "current_settings", lambda: new)
    failures: list[Exception] = [ServerUnavailable("away")]
    runtime: Any = SimpleNamespace(settings=old, changed_settings=SimpleNamespace(look=lambda: asyncio.sleep(0)))

    async def use(settings: Settings) -> None:
        if failures:
            raise failures.pop()
        runtime.settings = settings

    runtime.use = use
    with pytest.raises(ServerUnavailable):
        asyncio.run(Runtime._settings(runtime))
    asyncio.run(Runtime._settings(runtime))
    assert runtime.settings is new
