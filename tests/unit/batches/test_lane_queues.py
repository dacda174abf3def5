"""What a provider's queue may hold, and how many provider batches an account may create."""

from typing import Any

import pytest

from limits.bucket import Quota
from limits.budget import BudgetWindow
from limits.snapshot import snapshot
from tasks.batches import offload
from tasks.batches.batch_lane import BatchLane
from tasks.batches.chunk import Chunk
from tasks.batches.chunk_money import ChunkMoney
from tasks.batches.provider_queue import places
from tests.simulator import Simulator
from tests.support.batch_apis import APIS
from tests.support.lane import Lane
from tests.unit.batches import conftest
from tests.unit.batches.conftest import World
from workers.providers.batch_api import Limits
from workers.providers.batch_openai import OpenAIBatches


def chunk_of(lane: Lane, name: str, model: str = "small", key: int = 0) -> Chunk:
    """A chunk that asks for its places."""
    return Chunk(
        id=name, batch=lane.id, number=0, round=0, provider="acme", model=model, key=key, url="/v1/chat/completions",
        lines=10, first=1, last=10, bytes=100, tokens=50, held=0, held_row="",
    )  # fmt: skip


def lane_at(world: World, simulator: Simulator, name: str, **provider: Any) -> Lane:
    settings = {**APIS[name], **provider}
    settings["base_url"] = simulator.base_url + settings.pop("path")
    return Lane(world, simulator, provider=settings)


@pytest.mark.parametrize(
    ("api", "unit", "limit"),
    [("gemini", "provider batches", 100), ("mistral", "requests", 1_000_000), ("anthropic", "requests", 200_000)],
)
def test_models_of_an_account_share_its_queue(
    world: World, simulator: Simulator, api: str, unit: str, limit: int
) -> None:
    lane = lane_at(world, simulator, api)
    of = BatchLane(world.store, lane.settings, lane.batch)
    money = ChunkMoney(world.store, lane.settings, lane.batch)
    one, other = chunk_of(lane, "chunk_one"), chunk_of(lane, "chunk_other", model="large")
    found, others = places(of, one)[unit], places(of, other)[unit]
    assert (found.limit, found.subject) == (limit, others.subject)
    full = {unit: type(found)(limit - found.amount, limit, found.subject)}
    assert money.hold(chunk_of(lane, "chunk_full"), full) is None
    assert money.hold(one, places(of, one)) is None
    missing = money.hold(other, places(of, other))
    assert missing is not None
    assert "the provider's queue has no room" in missing.words
    money.leave_queue(one, places(of, one))
    assert money.hold(other, places(of, other)) is None, "it was given back"


def test_keys_of_one_account_share_its_queue(world: World, simulator: Simulator) -> None:
    lane = lane_at(world, simulator, "gemini", shared_quota=True)
    of = BatchLane(world.store, lane.settings, lane.batch)
    assert places(of, chunk_of(lane, "a", key=0)) == places(of, chunk_of(lane, "b", key=1))


def test_the_requests_in_a_queue_can_be_configured(world: World, simulator: Simulator) -> None:
    lane = lane_at(world, simulator, "anthropic", batch_queued_requests=500_000)
    of = BatchLane(world.store, lane.settings, lane.batch)
    assert places(of, chunk_of(lane, "a"))["requests"].limit == 500_000


@pytest.fixture
def few_creates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenAIBatches, "limits", Limits(requests=3, bytes=200_000_000, creates_an_hour=600))


@pytest.mark.long
@pytest.mark.usefixtures("few_creates")
def test_creates_are_spread_over_the_hour(world: World, simulator: Simulator) -> None:
    lane = Lane(world, simulator, 18)
    lane.run(seconds=30.0)
    created = sorted(each["created_at"] for each in simulator.batches())
    assert len(created) == 6
    assert created[-1] - created[0] >= 5, "half a minute's worth at once, then one in six seconds"
    assert len(lane.results()) == 18
    lane.assert_books()


@pytest.mark.long
@pytest.mark.usefixtures("few_creates")
def test_a_chunk_says_that_it_waits_for_a_create(world: World, simulator: Simulator) -> None:
    lane = Lane(world, simulator, 18)
    words = "its account may create 600 provider batches an hour"
    lane.run(lambda: any(chunk.trouble == words for chunk in lane.chunks))
    buckets = world.store.server.run(snapshot(world.store.keys, [("lane/acme/0/creates", Quota(rpm=10))])).buckets
    assert buckets[0].dimensions[0].name == "rpm"
    assert buckets[0].in_flight == 0
    lane.run(seconds=30.0)


def test_openais_creates_an_hour_are_known() -> None:
    assert OpenAIBatches.limits.creates_an_hour == 2_000
    assert OpenAIBatches.limits.embedded == 50_000


@pytest.fixture
def embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    of_chat = conftest.input_line

    def of_embeddings(number: int, text: str = "") -> dict[str, Any]:
        line = of_chat(number, text)
        texts = [f"text {each} of {number}" for each in range(10)]
        return {**line, "url": "/v1/embeddings", "body": {"model": "small", "input": texts}}

    monkeypatch.setattr(conftest, "input_line", of_embeddings)
    monkeypatch.setattr(OpenAIBatches, "limits", Limits(requests=50_000, bytes=200_000_000, embedded=65))


@pytest.mark.usefixtures("embeddings")
def test_a_chunk_embeds_no_more_texts_than_a_provider_batch_may(world: World, simulator: Simulator) -> None:
    lane = Lane(world, simulator, 20)
    lane.run()
    assert [each["lines"] for each in simulator.batches()] == [6, 6, 6, 2]
    lane.assert_books()


def test_a_place_is_given_back_when_the_provider_batch_has_ended(
    world: World, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offload, "AGAIN", 0.1)
    lane = Lane(world, simulator, model={"batch_enqueued_tokens": 10_000})
    queue = BudgetWindow("lane/acme/0/small/tokens", 10_000, "queue")

    def held() -> int:
        return world.store.server.run(snapshot(world.store.keys, budgets=[queue])).budgets[0].held

    lane.run(lambda: [chunk.state for chunk in lane.chunks] == ["running"])
    assert held() == lane.chunks[0].tokens > 0
    simulator.configure(batch_faults=[{"mode": "busy_content", "times": 3}])
    lane.run(lambda: lane.chunks[0].state == "fetching")
    assert held() == 0, "its results are not even fetched"
    lane.run()
    lane.assert_books()
