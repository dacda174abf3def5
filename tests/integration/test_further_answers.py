"""A line whose answer is not valid asks again: which answer it keeps, what it costs, and that none is paid twice."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tasks.jobs.state import JobState
from tests.simulator import Simulator
from tests.support import priced
from tests.support.asking import asking
from tests.support.delivery import Delivery, Desk
from tests.support.priced import acme
from tests.support.site import job, wait_for

clean = priced.clean

LARGE = "\n[providers.acme.models.large]\ninput_usd_per_mtok = 10.0\noutput_usd_per_mtok = 20.0\n"


def nightly(text: str = 'on_invalid = "retry"') -> str:
    return f"{LARGE}\n[workflows.nightly]\n{text}\n"


def flawed(simulator: Simulator, kind: str, **more: Any) -> None:
    strong = {"input_usd_per_mtok": 10.0, "output_usd_per_mtok": 20.0}
    simulator.configure(
        flaws=[{"kind": kind, "part": 1.0, **more}], models={"*": {"output_usd_per_mtok": 1.0}, "large": strong}
    )


def report(delivery: Delivery) -> dict[str, Any]:
    assert delivery.line is not None
    found: dict[str, Any] = delivery.line["overnight"]
    return found


def results(delivery: Delivery) -> list[str]:
    """The results of a line's answers; the codes of errors in place of answers."""
    return [
        each["error"]["code"] if "error" in each else each["checks"]["result"] for each in report(delivery)["answers"]
    ]


def bill(simulator: Simulator) -> int:
    return sum(entry["cost_nusd"] for entry in simulator.journal())


@pytest.fixture(autouse=True)
def right(simulator: Simulator) -> Any:
    yield
    simulator.configure(flaws=[])


def test_an_invalid_answer_is_kept_by_default(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    flawed(simulator, "invalid")
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly(""))) as desk:
        found = desk.deliver(asking(1))
        assert found.answered
        assert report(found)["checks"]["result"] == "invalid"
        assert "answers" not in report(found)
        assert len(simulator.journal()) == 1


def test_a_second_answer_replaces_an_invalid_one(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    flawed(simulator, "invalid", answers=1)
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly())) as desk:
        found = desk.deliver(asking(1))
        assert (report(found)["checks"], results(found)) == ({"result": "valid"}, ["invalid", "valid"])
        assert report(found)["cost_usd"] == pytest.approx(bill(simulator) / 1e9)
        assert sum(each["cost_usd"] for each in report(found)["answers"]) == pytest.approx(report(found)["cost_usd"])
        assert report(found)["attempts"] == 1  # an answer is no failure
        assert desk.spent().cost == bill(simulator)
        assert desk.spent().calls == 2


def test_it_ends_after_the_most_answers(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    flawed(simulator, "invalid")
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly('on_invalid = "retry"\nmax_answers = 3'))) as desk:
        found = desk.deliver(asking(1))
        assert found.answered
        assert results(found) == ["invalid", "invalid", "invalid"]
        assert report(found)["checks"]["result"] == "invalid"
        assert len(simulator.journal()) == 3


def test_a_truncated_answer_gets_twice_the_room(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    flawed(simulator, "truncated", ceiling=200)
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly('on_invalid = "retry"\nmax_answers = 3'))) as desk:
        found = desk.deliver(asking(1))  # its own ceiling is 50
        assert results(found) == ["truncated", "truncated", "valid"]
        assert [entry["body"]["max_tokens"] for entry in simulator.journal()] == [50, 100, 200]
        assert "cut_off_by" not in report(found)


def test_the_last_answer_comes_from_the_stronger_model(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    flawed(simulator, "invalid", model="small")
    text = 'on_invalid = "retry"\nmax_answers = 3\nescalate = "large"'
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly(text))) as desk:
        found = desk.deliver(asking(1))
        assert [(each["model"], each["checks"]["result"]) for each in report(found)["answers"]] == [
            ("small", "invalid"),
            ("small", "invalid"),
            ("large", "valid"),
        ]
        assert report(found)["model"] == "large"
        assert report(found)["cost_usd"] == pytest.approx(bill(simulator) / 1e9)


def test_a_refusal_goes_to_the_stronger_model_at_once(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    flawed(simulator, "refused", model="small")
    text = 'on_invalid = "retry"\nmax_answers = 3\nescalate = "large"'
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly(text))) as desk:
        found = desk.deliver(asking(1))
        assert [each["model"] for each in report(found)["answers"]] == ["small", "large"]
        assert report(found)["checks"] == {"result": "valid"}


def test_a_refusal_is_kept_without_a_stronger_model(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    flawed(simulator, "refused")
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly())) as desk:
        found = desk.deliver(asking(1))
        assert report(found)["checks"] == {"result": "refused", "reason": "I can't help with that."}
        assert len(simulator.journal()) == 1


def test_a_refused_ceiling_goes_to_the_stronger_model_without_it(
    tmp_path: Path, valkey: str, simulator: Simulator
) -> None:
    """What a model allows is known to its provider only."""
    flawed(simulator, "truncated", model="small")
    simulator.configure(failures=[{"mode": "400", "model": "small", "after": 1}])
    text = 'on_invalid = "retry"\nmax_answers = 3\nescalate = "large"'
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly(text))) as desk:
        found = desk.deliver(asking(1))
        assert results(found) == ["truncated", "valid"]
        asked = [(entry["model"], entry["body"]["max_tokens"]) for entry in simulator.journal()]
        assert asked == [("small", 50), ("small", 100), ("large", 50)]


def test_a_spent_budget_keeps_the_answer_and_says_so(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    """The workflow waits for its budget, but not with an answer in hand."""
    flawed(simulator, "invalid")
    text = 'on_invalid = "retry"\nbudget_usd = 0.0016'
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly(text))) as desk:
        found = desk.deliver(asking(1))
        assert found.answered
        assert results(found) == ["invalid", "budget_exceeded"]
        assert report(found)["answers"][1]["error"]["message"] == "the budget of workflow/nightly is spent"
        assert report(found)["cost_usd"] == pytest.approx(bill(simulator) / 1e9)
        (budget,) = desk.snapshot().budgets
        assert (budget.held, budget.spent) == (0, bill(simulator))


def test_a_failed_further_call_keeps_the_answer(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    flawed(simulator, "invalid")
    simulator.configure(failures=[{"mode": "400", "after": 1}])
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly())) as desk:
        found = desk.deliver(asking(1))
        assert found.answered
        assert results(found)[0] == "invalid"
        assert report(found)["answers"][1]["error"]["code"]
        assert report(found)["checks"]["result"] == "invalid"


def test_a_killed_worker_repeats_no_paid_answer(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    """The second call is cut off, as by a kill, and the message comes again with the state that it had at first."""
    flawed(simulator, "invalid", answers=1)
    simulator.configure(failures=[{"mode": "hang", "after": 1, "times": 1}])
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly())) as desk:
        job = desk.job(asking(1))

        async def killed() -> None:
            task = asyncio.ensure_future(desk.deliver_job(job))
            await asyncio.to_thread(wait_for, lambda: simulator.stats()["requests"] == 2, what="the second call")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        desk.wait(killed())
        desk.client.hset(desk.keys.job(job.id), "until", 0)  # as if its lease had ended
        simulator.configure(failures=[])
        found = desk.wait(desk.deliver_job(job, JobState()))
        assert results(found) == ["invalid", "valid"]
        assert len(simulator.journal()) == 3  # one answer, one call that was cut off, one more answer
        assert json.loads(found.line["response"]["body"]["choices"][0]["message"]["content"])["total"] == 7  # type: ignore[index]
        assert desk.client.hget(desk.keys.job(job.id), "kept") is None


def test_a_job_can_fail_for_an_invalid_answer(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    flawed(simulator, "invalid")
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly('on_invalid = "fail"'))) as desk:
        found = desk.deliver(asking(1))
        assert found.failure == "invalid_answer"
        assert found.line is not None
        assert found.line["response"]["body"]["choices"]  # it is paid for, so it is told
        assert found.line["error"]["message"] == "the answer is invalid: overnight.checks of this line says why"
        assert "doesn't match its schema" in report(found)["checks"]["reason"]


def test_a_workflow_own_check_decides_too(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    text = 'check = "tests.support.own_checks:seven"\non_invalid = "retry"\nescalate = "large"'
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly(text))) as desk:
        assert report(desk.deliver(asking(1)))["checks"] == {"result": "valid"}  # the simulator's total is 7
        found = desk.deliver(job(2))
        assert results(found) == ["invalid", "invalid"]
        assert report(found)["checks"]["reason"].startswith(
            "check tests.support.own_checks:seven: unexpected character"
        )
