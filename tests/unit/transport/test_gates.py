"""Gates: a worker does not claim from a workflow that cannot run, which costs a handful of denials."""

from workers.transport.gates import (
    EARLY,
    FIRST,
    FORGET,
    LONG,
    LONGEST,
    PEEK_JOBS,
    SILENT,
    UNKNOWN,
    Gates,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def made() -> tuple[Gates, Clock]:
    clock = Clock()
    return Gates(clock), clock


def test_a_short_denial_closes_nothing() -> None:
    gates, clock = made()
    gates.claimed("w", 1)
    gates.close("w", "m", LONG - 0.1)
    assert gates.allowed("w") == FIRST, "fewer are claimed of a workflow of which little is known"
    gates.claimed("w", 1)
    clock.now += SILENT + 0.1
    assert gates.allowed("w") is None
    gates.close("w", "m", LONG - 0.1)
    assert gates.allowed("w") is None
    assert gates.closed_for("w", "m") == 0.0


def test_a_caller_may_lower_the_shortest_denial_that_closes() -> None:
    gates, clock = made()
    gates.claimed("w", 1)
    gates.close("w", "m", 2.5, least=2.0)
    assert gates.allowed("w") == 0
    clock.now += 2.5 - EARLY + 0.01
    assert gates.allowed("w") == FIRST


def test_a_long_denial_closes_the_gate_until_just_before_its_hint() -> None:
    gates, clock = made()
    gates.claimed("w", 1)
    gates.close("w", "m", 30.0)
    assert gates.allowed("w") == 0
    assert 26.0 - EARLY <= gates.closed_for("w", "m") <= 30.0, (
        "jobs are back by then, spread over seconds, since the gate is closed"
    )
    gates.close("w", "m", 50.0)
    clock.now += 30.0 - EARLY - 0.01
    assert gates.allowed("w") == 0
    clock.now += 0.02
    assert gates.allowed("w") == FIRST, "the first hint counts, not those of later jobs"
    assert gates.closed_for("w", "m") == 0.0


def test_the_gate_stays_open_until_all_models_are_closed() -> None:
    gates, clock = made()
    gates.claimed("w", 2)
    gates.close("w", "slow", 30.0)
    gates.admitted("w", "fast")
    assert gates.allowed("w"), "fast can run"
    assert gates.closed_for("w", "fast") == 0.0
    assert gates.closed_for("w", "slow") > 30.0 - EARLY, "an earlier job would get through the open gate"
    gates.close("w", "fast", 20.0)
    assert gates.allowed("w") == 0
    clock.now += 20.0
    assert gates.allowed("w") == FIRST


def test_a_broker_without_gates_gets_jobs_back_after_the_model_opens() -> None:
    gates, _ = made()
    gates.close("w", "m", 30.0)  # nothing was ever claimed
    assert 30.0 - EARLY <= gates.closed_for("w", "m") <= 34.0


def test_other_workflows_are_not_affected() -> None:
    gates, _ = made()
    gates.close("w", "m", 30.0)
    assert gates.allowed("other") == UNKNOWN
    assert gates.closed_for("other", "m") == 0.0


def test_a_half_open_gate_doubles_as_its_jobs_are_admitted() -> None:
    gates, clock = made()
    gates.close("w", "m", 10.0)
    clock.now += 10.0
    assert gates.allowed("w") == FIRST
    gates.claimed("w", FIRST)
    assert gates.allowed("w") == 0, "until one of them is admitted"
    gates.admitted("w", "m")
    gates.admitted("w", "m")
    assert gates.allowed("w") == 2 * FIRST
    gates.claimed("w", 2)
    gates.close("w", "m", 12.0)
    assert gates.allowed("w") == 0
    clock.now += 12.0
    assert gates.allowed("w") == FIRST, "one denial starts it over"
    for _ in range(127):
        gates.admitted("w", "m")
    assert gates.allowed("w") is None


def test_jobs_that_end_without_admission_do_not_keep_a_gate_closed() -> None:
    gates, clock = made()
    gates.close("w", "m", 10.0)
    clock.now += 10.0
    gates.claimed("w", FIRST)
    assert gates.allowed("w") == 0
    clock.now += SILENT + 0.1
    assert gates.allowed("w") is None
    gates.close("w", "m", 10.0)
    assert gates.allowed("w") == 0, "one denial closes it again"


def test_a_gate_becomes_half_open_after_a_minute_at_most() -> None:
    gates, clock = made()
    gates.close("w", "m", 86_400.0)
    clock.now += LONGEST
    assert gates.allowed("w") == FIRST, "an operator may have raised the budget"


def test_a_limited_model_gets_as_many_jobs_as_wanted() -> None:
    gates, clock = made()
    wanted: int | None = 3
    gates.limit("w", "m", lambda: wanted)
    gates.claimed("w", 1)
    assert gates.allowed("w") == 2, "one is pending"
    gates.arrived("w")
    assert gates.allowed("w") == 3
    wanted = -2
    assert gates.allowed("w") == 0
    gates.admitted("w", "m")
    assert gates.allowed("w") == 0, "others wait"
    clock.now += SILENT + 0.1
    assert gates.allowed("w") == 1, "one now and then: it may be for another model"
    wanted = None
    assert gates.allowed("w") is None, "nobody has to wait now"


def test_an_unknown_workflow_starts_with_a_few_jobs() -> None:
    gates, clock = made()
    assert gates.allowed("w") == UNKNOWN
    gates.claimed("w", UNKNOWN - 2)
    assert gates.allowed("w") == 2
    clock.now += SILENT + 0.1
    assert gates.allowed("w") is None, "nothing has limited it"
    clock.now += FORGET - SILENT - 1
    gates.claimed("w", 1)
    clock.now += FORGET - 1
    assert gates.allowed("w") is None
    clock.now += 2
    assert gates.allowed("w") == UNKNOWN, "it is unknown again"
    gates.claimed("w", 1)
    assert gates.allowed("w") == UNKNOWN - 1


def test_an_unknown_workflow_gets_more_jobs_while_its_jobs_are_admitted() -> None:
    gates, _ = made()
    gates.claimed("w", UNKNOWN)
    claimed = []
    for _ in range(3):
        for _ in range(claimed[-1] if claimed else UNKNOWN):
            gates.admitted("w", "m")
        claimed.append(gates.allowed("w"))
        gates.claimed("w", claimed[-1] or 0)
    assert claimed == [2 * UNKNOWN, 4 * UNKNOWN, None]


def test_a_limited_model_does_not_hold_up_others() -> None:
    gates, clock = made()
    gates.limit("w", "slow", lambda: 0)
    gates.claimed("w", 1)
    assert gates.allowed("w") == 0
    clock.now += SILENT + 0.1
    assert gates.allowed("w") == 1, "one now and then: it may be for another model"
    gates.closed_for("w", "fast")
    assert gates.allowed("w") is None
    gates.close("w", "fast", 30.0)
    gates.claimed("w", 1)
    assert gates.allowed("w") == 0


def test_jobs_of_other_models_are_found_behind_a_blocked_account() -> None:
    gates, clock = made()
    gates.close("nightly", "dead", 45.0, blocked=True)
    assert gates.allowed("nightly") == PEEK_JOBS
    gates.claimed("nightly", PEEK_JOBS)
    assert gates.allowed("nightly") == 0
    for _ in range(PEEK_JOBS):
        gates.arrived("nightly")
        assert gates.closed_for("nightly", "dead") > 0, "jobs of the blocked model are snoozed without asking"
    clock.now += SILENT + 0.01
    assert gates.allowed("nightly") == PEEK_JOBS
    gates.admitted("nightly", "alive")
    assert gates.allowed("nightly"), "the other model goes on"
    gates.close("nightly", "alive", 45.0)
    gates.close("nightly", "dead", 45.0)
    clock.now += SILENT + 0.01
    assert gates.allowed("nightly") == 0, "no model is blocked now"


def test_a_held_workflow_claims_nothing_until_it_is_let_go() -> None:
    gates, _ = made()
    gates.hold(frozenset({"w"}))
    assert (gates.allowed("w"), gates.allowed("other")) == (0, UNKNOWN)
    gates.hold(frozenset())
    assert gates.allowed("w") == UNKNOWN


def test_changed_limits_let_closed_gates_ask_again() -> None:
    gates, _ = made()
    gates.claimed("w", 1)
    gates.close("w", "m", 30.0)
    assert gates.allowed("w") == 0
    gates.forget()
    assert gates.allowed("w") == UNKNOWN
