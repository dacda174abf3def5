"""In which order a worker takes from its queues."""

from collections import Counter

import pytest

from tests.unit.transport.conftest import World
from workers.transport.fair_share import MAX_SHARED, FairShare
from workers.transport.policy import Policy
from workers.transport.queues import SEPARATOR


@pytest.fixture(autouse=True)
def policies(monkeypatch: pytest.MonkeyPatch) -> dict[str, Policy]:
    found: dict[str, Policy] = {}
    monkeypatch.setattr(FairShare, "policy", staticmethod(lambda queue: found.get(queue, Policy())))
    return found


def served(shares: FairShare, ready: list[str], rounds: int) -> Counter[str]:
    """How many of `rounds` claims each queue gets."""
    found: Counter[str] = Counter()
    for _ in range(rounds):
        first = shares.plan(ready, 1)[0].name
        shares.took(first.partition(SEPARATOR)[0], 1)
        found[first] += 1
    return found


def test_queues_take_turns(policies: dict[str, Policy]) -> None:
    del policies
    shares = FairShare(["a", "b", "c"])
    shares.update(["a", "b", "c"])
    assert served(shares, ["a", "b", "c"], 30) == {"a": 10, "b": 10, "c": 10}


def test_weights_are_shares(policies: dict[str, Policy]) -> None:
    policies["a"] = Policy(weight=3.0)
    shares = FairShare()
    shares.update(["a", "b"])
    assert served(shares, ["a", "b"], 40) == {"a": 30, "b": 10}
    assert [source.share for source in sorted(shares.plan(["a", "b"], 10), key=lambda source: source.name)] == [3, 1]


def test_an_empty_queue_saves_up_no_turns(policies: dict[str, Policy]) -> None:
    del policies
    shares = FairShare()
    shares.update(["busy", "idle"])
    served(shares, ["busy"], 1000)
    assert served(shares, ["busy", "idle"], 20) == {"busy": 10, "idle": 10}


def test_a_closed_gate_is_skipped_and_a_half_open_one_limits(policies: dict[str, Policy]) -> None:
    policies["closed"], policies["half-open"], policies["capped"] = Policy(allowed=0), Policy(allowed=2), Policy(cap=7)
    shares = FairShare()
    shares.update(["closed", "half-open", "capped"])
    plan = {source.name: source for source in shares.plan(["closed", "half-open", "capped", "strange"], 10)}
    assert set(plan) == {"half-open", "capped"}
    assert (plan["half-open"].limit, plan["capped"].limit) == (2, 0)
    assert (plan["half-open"].cap, plan["capped"].cap) == (0, 7)


def test_priorities_and_urgency(policies: dict[str, Policy]) -> None:
    policies["now"] = Policy(urgent=True)
    shares = FairShare()
    shares.update(["a", "now"])
    plan = shares.plan(["a" + SEPARATOR + "9", "a", "now"], 10)
    assert [source.priority for source in plan] == [0, 0, 9]
    assert shares.urgent == {"now"}
    assert {source.name for source in plan if source.urgent} == {"now"}


def test_a_claim_looks_into_few_of_a_thousand_queues(policies: dict[str, Policy], world: World) -> None:
    del policies, world
    names = [f"q{number}" for number in range(1_000)]
    shares = FairShare()
    shares.update(names)
    assert len(shares.plan(names, 50)) <= 70


def test_unconfigured_workflows_have_one_share_together(policies: dict[str, Policy]) -> None:
    strangers = [f"w{number}" for number in range(150)]
    policies.update(dict.fromkeys(strangers, Policy(shared=True)))
    shares = FairShare()
    shares.update([*strangers, "victim"])
    found = served(shares, [*strangers, "victim"], 600)
    assert found["victim"] == 300
    assert {found[name] for name in strangers} == {2}, "among themselves they take turns"


def test_one_large_claim_has_the_same_shares(policies: dict[str, Policy]) -> None:
    strangers = [f"w{number}" for number in range(150)]
    policies.update(dict.fromkeys(strangers, Policy(shared=True)))
    policies["heavy"] = Policy(weight=2.0)
    shares = FairShare()
    shares.update([*strangers, "victim", "heavy"])
    plan = {source.name: source.share for source in shares.plan([*strangers, "victim", "heavy"], 100)}
    assert len(plan) == MAX_SHARED + 2
    assert plan["victim"] == sum(plan[name] for name in strangers if name in plan)
    assert plan["heavy"] == 2 * plan["victim"]


def test_closed_unconfigured_workflows_do_not_hide_others(policies: dict[str, Policy]) -> None:
    gated = [f"a{number}" for number in range(100)]
    policies.update(dict.fromkeys(gated, Policy(shared=True, allowed=0)), z=Policy(shared=True))
    shares = FairShare()
    shares.update([*gated, "z"])
    assert [source.name for source in shares.plan([*gated, "z"], 10)] == ["z"]


def test_a_single_unconfigured_workflow_gets_a_full_share(policies: dict[str, Policy]) -> None:
    policies["new"] = Policy(shared=True)
    shares = FairShare()
    shares.update(["new", "nightly"])
    assert served(shares, ["new", "nightly"], 40) == {"new": 20, "nightly": 20}
