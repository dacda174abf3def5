"""Gates: a workflow that cannot run now is not claimed from, and costs a handful of denials."""

from workers.transport.gates import (
    CLEARED_AFTER,
    EARLY,
    FIRST,
    FORGET,
    LONG,
    LONGEST,
    LOOK_EVERY,
    PEEK_JOBS,
    SILENT,
    TRIAL_JOBS,
    TRIAL_SECONDS,
    Gates,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def made() -> tuple[Gates, Clock]:
    clock = Clock()
    return Gates(clock), clock


def test_a_short_denial_shuts_nothing() -> None:
    gates, _ = made()
    gates.close("w", "m", LONG - 0.1)
    assert gates.allowed("w") == TRIAL_JOBS
    assert gates.closed_for("w", "m") == 0.0


def test_a_shorter_denial_shuts_where_its_reason_is_enough() -> None:
    gates, clock = made()
    gates.close("w", "m", 1.9, least=2.0)
    assert gates.allowed("w") == TRIAL_JOBS
    gates.claimed("w", 1)
    gates.close("w", "m", 2.5, least=2.0)
    assert gates.allowed("w") == 0
    clock.now += 2.5 - EARLY + 0.01
    assert gates.allowed("w") == FIRST


def test_a_long_denial_shuts_the_workflow_until_shortly_before_its_hint() -> None:
    gates, clock = made()
    gates.claimed("w", 1)
    gates.close("w", "m", 30.0)
    assert gates.allowed("w") == 0
    assert 26.0 - EARLY <= gates.closed_for("w", "m") <= 30.0, (
        "a job is back by then, spread by seconds: its gate is shut"
    )
    gates.close("w", "m", 50.0)
    clock.now += 30.0 - EARLY - 0.01
    assert gates.allowed("w") == 0
    clock.now += 0.02
    assert gates.allowed("w") == FIRST, "the first hint counts, not those of jobs further back"
    assert gates.closed_for("w", "m") == 0.0


def test_other_models_go_on_until_all_are_shut() -> None:
    gates, clock = made()
    gates.claimed("w", 2)
    gates.close("w", "slow", 30.0)
    gates.admitted("w", "fast")
    assert gates.allowed("w"), "fast can run"
    assert gates.closed_for("w", "fast") == 0.0
    assert gates.closed_for("w", "slow") > 30.0 - EARLY, "it would come through the open gate before"
    gates.close("w", "fast", 20.0)
    assert gates.allowed("w") == 0
    clock.now += 20.0
    assert gates.allowed("w") == FIRST


def test_where_the_broker_pushes_whatever_it_has_jobs_stay_away_until_their_model_is_open() -> None:
    gates, _ = made()
    gates.close("w", "m", 30.0)  # nothing was ever claimed
    assert 30.0 - EARLY <= gates.closed_for("w", "m") <= 34.0


def test_another_workflow_is_not_touched() -> None:
    gates, _ = made()
    gates.close("w", "m", 30.0)
    assert gates.allowed("other") == TRIAL_JOBS
    assert gates.closed_for("other", "m") == 0.0


def test_a_gate_that_opens_lets_a_few_through_and_more_with_each_admission() -> None:
    gates, clock = made()
    gates.close("w", "m", 10.0)
    clock.now += 10.0
    assert gates.allowed("w") == FIRST
    gates.claimed("w", FIRST)
    assert gates.allowed("w") == 0, "until one of them has been admitted"
    gates.admitted("w", "m")
    assert gates.allowed("w") == 2 * FIRST
    gates.claimed("w", 2)
    gates.close("w", "m", 12.0)
    assert gates.allowed("w") == 0
    clock.now += 12.0
    assert gates.allowed("w") == FIRST, "one denial, and it begins anew"
    for _ in range(10):
        gates.admitted("w", "m")
    assert gates.allowed("w") is None


def test_jobs_that_end_without_asking_do_not_keep_a_gate_shut() -> None:
    gates, clock = made()
    gates.close("w", "m", 10.0)
    clock.now += 10.0
    gates.claimed("w", FIRST)
    assert gates.allowed("w") == 0
    clock.now += SILENT + 0.1
    assert gates.allowed("w") == FIRST


def test_a_gate_is_tried_now_and_then_however_long_the_hint() -> None:
    gates, clock = made()
    gates.close("w", "m", 86_400.0)
    clock.now += LONGEST
    assert gates.allowed("w") == FIRST, "a person may have raised the budget"


def test_of_a_crowded_model_as_many_are_claimed_as_are_wanted() -> None:
    gates, clock = made()
    wanted = 3
    gates.limit("w", "m", lambda: wanted)
    gates.claimed("w", 1)
    assert gates.allowed("w") == 2, "one is on its way"
    gates.arrived("w")
    assert gates.allowed("w") == 3
    wanted = -2
    assert gates.allowed("w") == 0
    gates.admitted("w", "m", waited=True)
    assert gates.allowed("w") == 0, "it waited in line, and others do"
    gates.admitted("w", "m")
    assert gates.allowed("w") == 0, "somebody waited there just now"
    clock.now += CLEARED_AFTER + 0.1
    gates.admitted("w", "m")
    assert gates.allowed("w") is None, "it got a source at once"


def test_of_an_unknown_workflow_a_few_jobs_show_first_what_limits_it() -> None:
    gates, clock = made()
    assert gates.allowed("w") == TRIAL_JOBS
    gates.claimed("w", TRIAL_JOBS - 2)
    assert gates.allowed("w") == 2
    clock.now += TRIAL_SECONDS
    assert gates.allowed("w") is None
    clock.now += FORGET - 1
    gates.claimed("w", 1)
    clock.now += FORGET - 1
    assert gates.allowed("w") is None
    clock.now += 2
    assert gates.allowed("w") == TRIAL_JOBS, "nobody knows any more"


def test_more_and_more_jobs_are_claimed_of_a_workflow_whose_first_ones_are_admitted_at_once() -> None:
    gates, _ = made()
    gates.claimed("w", TRIAL_JOBS)
    claimed = []
    for _ in range(4):
        for _ in range(claimed[-1] if claimed else TRIAL_JOBS):
            gates.admitted("w", "m")
        claimed.append(gates.allowed("w"))
        gates.claimed("w", claimed[-1])
    assert claimed == [2 * TRIAL_JOBS, 4 * TRIAL_JOBS, 8 * TRIAL_JOBS, 16 * TRIAL_JOBS]


def test_a_crowd_holds_up_no_other_model() -> None:
    gates, clock = made()
    gates.limit("w", "slow", lambda: 0)
    gates.claimed("w", 1)
    assert gates.allowed("w") == 0
    clock.now += SILENT + 0.1
    assert gates.allowed("w") == 1, "one now and then: it may be of another model"
    gates.closed_for("w", "fast")
    assert gates.allowed("w") is None
    gates.close("w", "fast", 30.0)
    gates.claimed("w", 1)
    assert gates.allowed("w") == 0


def test_behind_a_blocked_account_the_jobs_of_other_models_are_looked_for() -> None:
    gates, clock = made()
    gates.close("nightly", "dead", 45.0, blocked=True)
    assert gates.allowed("nightly") == PEEK_JOBS
    gates.claimed("nightly", PEEK_JOBS)
    assert gates.allowed("nightly") == 0
    for _ in range(PEEK_JOBS):
        gates.arrived("nightly")
        assert gates.closed_for("nightly", "dead") > 0, "what is found of the blocked one goes back unasked"
    clock.now += LOOK_EVERY
    assert gates.allowed("nightly") == PEEK_JOBS
    gates.admitted("nightly", "alive")
    assert gates.allowed("nightly"), "another one is there, and goes on"
    gates.close("nightly", "alive", 45.0)
    gates.close("nightly", "dead", 45.0)
    clock.now += LOOK_EVERY
    assert gates.allowed("nightly") == 0, "none is blocked any more"
