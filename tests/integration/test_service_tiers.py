"""Service tiers: what flex refuses holds back flex alone, and a call is paid at the tier that its answer names."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from limits.bucket import Quota
from limits.snapshot import Snapshot, snapshot
from tasks.jobs import flex, retry
from tasks.jobs.job import Job
from tests.support import refused
from tests.support.answering import AnsweringProvider, Call, Reply, completion, refusal
from tests.support.delivery import Desk
from tests.support.refused import asking
from tests.support.site import job
from tests.support.toml import PRICES, provider
from workers.models import shared_prices
from workers.models.prices import flat

raw = refused.raw
secret = refused.secret


#: A name with two targets, of which one has a flex tier.
MIX = """[models.mix]
targets = [{ provider = "acme", model = "m" }, { provider = "acme", model = "plain" }]
"""


@pytest.fixture
def desk(
    tmp_path: Path, valkey: str, raw: AnsweringProvider, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    monkeypatch.setattr(retry, "BACKOFF", 0.02)
    raw.clear()
    models = {"m": f"{PRICES}flex_price = 0.5", "plain": PRICES, "open": ""}
    more = "timeout = 1\nflex_timeout = 900"
    acme = provider(raw.base_url, key=f'"file:{secret}"', more=more, models=models)
    with Desk(tmp_path, valkey, f"budget_usd = 5.0\n{acme}{MIX}") as made:
        yield made


OPENAI = {"error": {"message": "Resource Unavailable", "code": "resource_unavailable"}}
OPENAI_WORDS = {"error": {"message": "Resource Unavailable", "type": "invalid_request_error", "code": None}}
GROQ = {"error": {"message": "Flex tier capacity exceeded", "code": "capacity_exceeded"}}
GEMINI = [{"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}]
GEMINI_429 = [{"error": {"code": 429, "message": "Resource has been exhausted.", "status": "RESOURCE_EXHAUSTED"}}]


def sheds(status: int, body: Any, **headers: str) -> Any:
    return lambda call: refusal(status, body, **headers) if "service_tier" in call.body else completion("fine")


def served(tier: str | None) -> Any:
    """Answers that name a tier."""

    def reply(_: Call) -> Reply:
        body = json.loads(completion("fine").body)
        return Reply(200, json.dumps(body | ({"service_tier": tier} if tier else {})))

    return reply


def state(desk: Desk) -> Snapshot:
    """The buckets and circuits of model m and of its flex tier."""
    names = [("acme/0/m", Quota()), ("flex:acme/0/m", Quota())]
    return desk.run(snapshot(desk.keys, names, ["acme/m", "flex:acme/m"]))


def by_flex(desk: Desk, number: int, until: float = 3_600.0, model: str = "m") -> Job:
    """A line of a batch that may use the flex lane."""
    return replace(desk.job(job(number, model=model)), flex_until=time.time() + until)


@pytest.mark.parametrize(
    ("status", "body"), [(429, OPENAI), (429, OPENAI_WORDS), (498, GROQ), (503, GEMINI), (429, GEMINI_429)]
)
def test_a_shed_flex_call_pauses_only_flex(
    desk: Desk, raw: AnsweringProvider, monkeypatch: pytest.MonkeyPatch, status: int, body: Any
) -> None:
    monkeypatch.setattr(retry, "BACKOFF", 30.0)
    raw.reply = sheds(status, body, retry_after="20")
    first = desk.deliver(job(1, model="m", service_tier="flex"))
    assert first.snooze is not None
    assert first.state.attempts == 0, "the wait spends no attempt"
    model, own = state(desk).buckets
    assert not model.paused_until
    assert own.paused_until / 1e6 - desk.now() == pytest.approx(20, abs=2)
    calls = len(raw.calls)
    assert desk.deliver(job(2, model="m", service_tier="flex")).snooze is not None
    assert len(raw.calls) == calls, "flex is paused for every flex call"
    assert all(each.answered for each in desk.all(*asking("m", range(10, 20))))


def test_a_limit_that_a_flex_call_meets_pauses_the_model(desk: Desk, raw: AnsweringProvider) -> None:
    words = "Rate limit reached for m on tokens per min (TPM): Limit 100, Used 90, Requested 20."
    raw.reply = lambda _: refusal(429, {"error": {"message": words, "code": "rate_limit_exceeded"}}, retry_after="20")
    assert desk.deliver(job(1, model="m", service_tier="flex")).snooze is not None
    model, own = state(desk).buckets
    assert model.paused_until
    assert not own.paused_until


def test_a_failing_flex_tier_opens_a_circuit_of_its_own(desk: Desk, raw: AnsweringProvider) -> None:
    raw.reply = sheds(500, {"error": {"message": "broken"}})
    desk.all(*(job(number, model="m", service_tier="flex") for number in range(40)))
    assert [each.state for each in state(desk).circuits] == ["closed", "open"]
    assert desk.deliver(job(100, model="m")).answered


@pytest.mark.parametrize(("named", "cost"), [("flex", 7), ("default", 14), (None, 14)])
def test_a_flex_call_is_paid_at_the_tier_that_its_answer_names(
    desk: Desk, raw: AnsweringProvider, named: str | None, cost: int
) -> None:
    raw.reply = served(named)
    line = desk.deliver(job(1, model="m", service_tier="flex")).line
    assert line is not None
    assert line["overnight"]["cost_usd"] == pytest.approx(cost * 1e-6)
    assert line["overnight"]["lane"] == "flex"
    spent = desk.spent()
    assert (spent.cost, spent.flex_calls, spent.flex_saved) == (cost * 1000, 1, (14 - cost) * 1000)


def test_a_dearer_tier_is_held_and_paid_at_its_own_price(desk: Desk, raw: AnsweringProvider) -> None:
    dear = {"acme/open": flat(1, 2), "acme/open#priority": flat(3, 6)}
    fields = shared_prices.encode(dear)
    desk.client.hset(desk.keys.prices, mapping=fields)
    held: list[int] = []

    def reply(call: Call) -> Reply:
        held.append(desk.run(snapshot(desk.keys, budgets=desk.windows())).budgets[0].held)
        return served(call.body.get("service_tier"))(call)

    raw.reply = reply
    open_model = "acme/open"
    plain = desk.deliver(job(1, model=open_model)).line
    dearer = desk.deliver(job(1, model=open_model, service_tier="priority")).line
    assert plain is not None
    assert dearer is not None
    assert dearer["overnight"]["cost_usd"] == pytest.approx(3 * plain["overnight"]["cost_usd"])
    assert held[1] >= 3 * held[0]
    refused = desk.deliver(job(2, model=open_model, service_tier="ultra"))
    assert refused.failure == "no_price"


def test_a_line_goes_by_flex_while_there_is_time(desk: Desk, raw: AnsweringProvider) -> None:
    raw.reply = lambda call: served(call.body.get("service_tier"))(call)
    lines = [
        desk.wait(desk.deliver_job(each)).line
        for each in (by_flex(desk, 1), by_flex(desk, 2, until=800.0), by_flex(desk, 3, model="plain"))
    ]
    assert [line and line["overnight"]["lane"] for line in lines] == ["flex", "live", "live"]
    assert [call.body.get("service_tier") for call in raw.calls] == ["flex", None, None]


def test_a_line_waits_for_flex_and_goes_live_when_time_is_short(desk: Desk, raw: AnsweringProvider) -> None:
    raw.reply = sheds(429, OPENAI, retry_after="20")
    first = by_flex(desk, 1)
    waits = desk.wait(desk.deliver_job(first))
    assert waits.snooze is not None
    assert waits.state.attempts == 0
    late = replace(first, flex_until=time.time() + 100)
    ended = desk.wait(desk.deliver_job(late, waits.state))
    assert ended.answered
    assert ended.line is not None
    assert ended.line["overnight"]["lane"] == "live"


def test_a_model_that_refuses_the_tier_is_called_live_from_then_on(desk: Desk, raw: AnsweringProvider) -> None:
    raw.reply = sheds(400, {"error": {"message": "Invalid service_tier argument", "param": "service_tier"}})
    for number in (1, 2):
        ended = desk.wait(desk.deliver_job(by_flex(desk, number)))
        assert ended.answered
        assert ended.state.attempts == 0
    assert len(raw.calls) == 3, "the second line did not ask for flex any more"
    assert desk.runtime.flex_refused["acme/m"] > time.monotonic()


def test_after_failures_in_the_flex_lane_the_line_goes_live(desk: Desk, raw: AnsweringProvider) -> None:
    raw.reply = sheds(500, {"error": {"message": "broken"}})
    one, state_ = by_flex(desk, 1), None
    for _ in range(flex.MAX_ATTEMPTS):
        ended = desk.wait(desk.deliver_job(one, state_))
        state_ = ended.state
    while not ended.answered:
        ended = desk.wait(desk.deliver_job(one, state_))
        state_ = ended.state
    assert [call.body.get("service_tier") for call in raw.calls] == ["flex"] * flex.MAX_ATTEMPTS + [None]


def test_a_paused_flex_tier_closes_no_gate_for_live_jobs(desk: Desk, raw: AnsweringProvider) -> None:
    raw.reply = sheds(429, OPENAI, retry_after="20")
    for number in (1, 2):
        assert desk.wait(desk.deliver_job(by_flex(desk, number))).snooze is not None
    gates = desk.runtime.gates
    assert gates.closed_for(desk.workflow, "m (flex)") > 0
    assert gates.closed_for(desk.workflow, "m") == 0.0
    assert desk.wait(desk.delivery(job(3, model="m"))).answered


def test_targets_without_the_tier_keep_their_share_of_the_flex_lane(desk: Desk, raw: AnsweringProvider) -> None:
    raw.reply = lambda call: served(call.body.get("service_tier"))(call)
    for number in range(30):
        assert desk.wait(desk.deliver_job(by_flex(desk, number, model="mix"))).answered
    tiers = {(call.model, call.body.get("service_tier")) for call in raw.calls}
    assert tiers == {("m", "flex"), ("plain", None)}


@pytest.mark.long
def test_a_flex_call_may_take_longer(desk: Desk, raw: AnsweringProvider) -> None:
    def slow(call: Call) -> Reply:
        time.sleep(1.5)
        return served(call.body.get("service_tier"))(call)

    raw.reply = slow
    assert desk.deliver(job(1, model="m", service_tier="flex")).answered
    assert not desk.deliver(job(2, model="m")).answered
