"""Blocked accounts: which refusal blocks what, which call may try, and what ends a block."""

import pytest

from limits.admission import release, sent, settle
from limits.bucket import Quota
from limits.feedback import AccountRefusal, RefusalEffect, refused, unblock_account
from limits.reservation import Candidate, Charge, Settlement
from limits.snapshot import snapshot
from tests.support.provider_feedback import block_account
from tests.unit.limits.world import World

ANY = Quota()
SUSPECTED, BLOCKED, KNOWN = RefusalEffect(False, False), RefusalEffect(True, True), RefusalEffect(False, True)


def ways(*accounts: str, model: str = "m") -> tuple[Candidate, ...]:
    return tuple(Candidate("c", each, (Charge("b", ANY, {}),), scope=f"{each}/{model}") for each in accounts)


def call(world: World, name: str, model: str = "m") -> None:
    """Send a call at once."""
    world.pass_time(0.001)
    world.admitted(name, candidates=ways("a", model=model), send_at_once=True)


def word(world: World, job: str, model: str = "m", *, certain: bool = False, key: str = "k1") -> RefusalEffect:
    """A job's call is refused."""
    name = f"{job}-{world.now}"
    call(world, name, model)
    heard = told(world, job, name, model, certain=certain, key=key)
    world.run(release, name, "o")
    return heard


def told(
    world: World, job: str, reservation: str, model: str = "m", *, certain: bool = False, key: str = "k1"
) -> RefusalEffect:
    word = AccountRefusal("a", "no", f"a/{model}", certain=certain, job=job, reservation=reservation, key=key)
    return world.run(refused, word)


def answer(world: World, name: str) -> None:
    world.run(settle, name, "o", Settlement())


def blocked(world: World) -> set[str]:
    return set(world.run(snapshot, accounts=["a", "a/m", "a/n"]).blocked_accounts)


def test_a_certain_word_blocks_the_account(world: World) -> None:
    assert word(world, "j1", certain=True) == BLOCKED
    assert blocked(world) == {"a"}
    assert world.denied("r", candidates=ways("a", model="n")).subject == "a"
    assert told(world, "j2", "", "n") == KNOWN


def test_a_refusal_counts_after_its_reservation_was_given_back(world: World) -> None:
    call(world, "gone")
    world.run(release, "gone", "o")
    assert told(world, "j1", "gone", certain=True) == BLOCKED


def test_a_second_jobs_word_blocks_the_model_alone(world: World) -> None:
    assert word(world, "j1") == SUSPECTED
    assert blocked(world) == set()
    assert word(world, "j2") == BLOCKED
    assert blocked(world) == {"a/m"}
    denied = world.denied("r", candidates=ways("a"))
    assert (denied.reason, denied.subject) == ("latch", "a/m")
    call(world, "other", "n")


def test_one_job_suffices_if_the_account_never_answered(world: World) -> None:
    assert word(world, "j1") == SUSPECTED
    assert word(world, "j1") == BLOCKED


def test_a_job_alone_is_not_believed_while_the_account_answers(world: World) -> None:
    call(world, "good")
    answer(world, "good")
    assert [word(world, "j1") for _ in range(3)] == [SUSPECTED] * 3
    world.pass_time(3601)
    assert word(world, "j1") == BLOCKED


def test_words_of_two_jobs_with_an_answer_between_them_block_nothing(world: World) -> None:
    assert word(world, "j1") == SUSPECTED
    call(world, "good")
    answer(world, "good")
    assert word(world, "j2") == SUSPECTED


@pytest.mark.parametrize("certain", [True, False])
def test_an_answer_to_a_later_call_ends_a_block(world: World, certain: bool) -> None:
    call(world, "before")
    call(world, "refused")
    call(world, "later")
    call(world, "too")
    told(world, "j1", "refused", certain=certain)
    if not certain:
        assert told(world, "j2", "too") == BLOCKED
    answer(world, "before")
    assert blocked(world)
    world.run(settle, "too", "o", Settlement(failed=True))
    assert blocked(world), "what was refused for its own sake proves nothing"
    answer(world, "later")
    assert blocked(world) == set()
    call(world, "next")


def test_one_call_at_a_time_tries_a_blocked_account_less_often_each_time(world: World) -> None:
    word(world, "j1", certain=True)
    for wait in (30, 60, 120, 240, 480, 960, 1800, 1800):
        world.pass_time(wait - 1)
        assert world.denied("early", candidates=ways("a")).reason == "latch"
        world.pass_time(1)
        trial = f"t{wait}-{world.now}"
        world.admitted(trial, candidates=ways("a"))
        assert world.denied("second", candidates=ways("a")).reason == "latch"
        assert world.run(sent, trial, "o").verdict == "sent"
        assert told(world, "j2", trial) == KNOWN
        world.run(release, trial, "o")


def test_a_trial_that_brings_no_word_makes_way_for_the_next(world: World) -> None:
    word(world, "j1", certain=True)
    world.pass_time(30)
    world.admitted("lost", candidates=ways("a"))
    world.pass_time(29)
    assert world.denied("early", candidates=ways("a")).reason == "latch"
    world.pass_time(1)
    call(world, "next")
    answer(world, "next")
    assert blocked(world) == set()


def test_another_key_ends_the_block_of_the_one_before(world: World) -> None:
    word(world, "j1", certain=True, key="k1")
    assert not world.run(unblock_account, "a", key="k1")
    assert world.run(unblock_account, "a", key="k2")
    world.run(block_account, "a", "by hand")
    assert not world.run(unblock_account, "a", key="k2")
    assert world.run(unblock_account, "a")


def test_a_reason_that_an_older_version_stored_blocks_until_a_call_is_answered(world: World) -> None:
    world.client.set(world.keys.blocked_account("a"), "invalid_api_key: set a valid one", px=60_000)
    assert blocked(world) == {"a"}
    call(world, "trial")
    assert world.denied("second", candidates=ways("a")).reason == "latch"
    answer(world, "trial")
    assert blocked(world) == set()


def test_the_first_reason_of_a_block_stays(world: World) -> None:
    assert world.run(block_account, "a", "pay the bill")
    assert not world.run(block_account, "a", "something else")
    assert world.run(snapshot, accounts=["a", "b"]).blocked_accounts == {"a": "pay the bill"}
    denied = world.denied("r", ANY)
    assert (denied.reason, denied.subject) == ("latch", "a")
    assert denied.retry_in is not None
    assert 30 <= denied.retry_in <= 60
    assert world.run(unblock_account, "a")
    assert not world.run(unblock_account, "a")
    world.admitted("r", ANY)


def test_a_blocked_account_does_not_block_others(world: World) -> None:
    world.run(block_account, "bad", "no")
    ways = tuple(Candidate("c", account, (Charge("b", ANY, {}),)) for account in ("bad", "good"))
    assert world.admitted("r", candidates=ways).candidate == 1
