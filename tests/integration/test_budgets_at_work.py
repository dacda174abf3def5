"""Money and quotas on the way of a job: what is held, what is sent, and what follows when a budget is spent."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from limits.budget import BudgetWindow
from limits.snapshot import BudgetState, snapshot
from tasks.batches.store import Store
from tasks.jobs import priced_routes
from tasks.jobs.retry import BUDGET_CHECK
from tasks.jobs.state import EARLY
from tasks.monitoring import limits
from tests.simulator import Simulator
from tests.support import priced
from tests.support.delivery import Desk
from tests.support.priced import DOLLAR, MICRO, acme, nightly
from tests.support.site import job, wait_for
from workers.models import budgets

clean = priced.clean


def test_a_job_without_a_ceiling_gets_one_under_a_budget(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    line = job(1)
    del line["body"]["max_tokens"]
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly(1.0, default_max_tokens=33))) as desk:
        assert desk.deliver(line).answered
        assert simulator.journal()[0]["body"]["max_tokens"] == 33
        (budget,) = desk.snapshot().budgets
        assert (budget.held, budget.spent) == (0, simulator.journal()[0]["cost_nusd"])
        assert desk.deliver(line, workflow="free").answered
        assert "max_tokens" not in simulator.journal()[1]["body"]


def test_an_answer_larger_than_its_estimate_becomes_debt(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    simulator.configure(answer_tokens=3_000, headers=False)
    line = job(1, max_tokens=5_000)
    toml = acme(simulator, model="tpm = 6_000\nburst = 1\nheadroom = 1.0", more='counting = "plain"')
    with Desk(tmp_path, valkey, toml) as desk:
        assert desk.deliver(line).answered
        (tpm,) = next(each for each in desk.snapshot().buckets if each.bucket == "acme/0/small").dimensions
        # 1,024 were expected of the answer, and 3,000 came: the bucket holds a second of 100 tokens.
        assert -3_000 < tpm.available < -1_500
        late = desk.deliver(job(2))
        assert late.snooze is not None
        assert late.snooze.reason == "tokens a minute at acme/small"


def test_an_answer_without_usage_costs_its_upper_bound(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "no_usage"}])
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly(1.0))) as desk:
        assert desk.deliver(job(1)).answered
        spent = desk.spent()
        assert spent.presumed == 1
        assert spent.presumed_cost >= simulator.journal()[0]["cost_nusd"]
        assert spent.cost == 0


def test_a_spent_budget_is_waited_for(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly(0.00036))) as desk:
        assert desk.deliver(job(1)).answered
        waiting = desk.deliver(job(2))
        assert waiting.snooze is not None
        assert waiting.snooze.reason == "the budget of nightly is spent"
        midnight = next(iter(desk.windows())).until / MICRO
        assert waiting.snooze.seconds + EARLY == pytest.approx(min(midnight - desk.now(), BUDGET_CHECK), abs=31)
        assert waiting.state.attempts == 0
        # A deadline before that: it comes back when that has passed, and not in between.
        soon = desk.deliver(job(3), deadline=desk.now() + 20)
        assert soon.snooze is not None
        assert soon.snooze.seconds + EARLY == pytest.approx(21, abs=1)
        assert len(simulator.journal()) == 1


def test_a_spent_budget_fails_where_the_workflow_says_so(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly(0.00036, when_exhausted="fail"))) as desk:
        assert desk.deliver(job(1)).answered
        assert desk.deliver(job(2)).failure == "budget_exceeded"
        assert len(simulator.journal()) == 1


def test_a_spent_budget_falls_back_to_the_cheaper_model(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    toml = acme(simulator, tables=nightly(0.00036, when_exhausted="fallback", fallback="tiny"))
    with Desk(tmp_path, valkey, toml) as desk:
        assert desk.deliver(job(1)).answered
        delivery = desk.deliver(job(2))
        assert delivery.line is not None
        assert delivery.line["overnight"]["model"] == "tiny"
        assert delivery.line["custom_id"] == "job-2"
        # Its cost was reported at the cheaper price.
        assert delivery.line["overnight"]["cost_usd"] < 0.00001
        # A model that no budget could ever pay for falls back, too.
        assert desk.deliver(job(3, max_tokens=1_000)).answered
        assert [entry["model"] for entry in simulator.journal()] == ["small", "tiny", "tiny"]


def test_a_fallback_that_cannot_be_paid_either_waits(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    toml = acme(simulator, tables=nightly(0.00036, when_exhausted="fallback", fallback="tiny"))
    with Desk(tmp_path, valkey, toml.replace("0.01", "0.95")) as desk:
        assert desk.deliver(job(1)).answered
        waiting = desk.deliver(job(2))
        assert waiting.snooze is not None
        assert waiting.snooze.reason == "the budget of nightly is spent"


def test_a_job_too_large_for_the_fallback_waits(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    toml = acme(simulator, tables=nightly(0.00036, when_exhausted="fallback", fallback="tiny"))
    tiny = "[providers.acme.models.tiny]\n"
    with Desk(tmp_path, valkey, toml.replace(tiny, f"{tiny}tpm = 10\n")) as desk:
        assert desk.deliver(job(1)).answered
        waiting = desk.deliver(job(2))
        assert waiting.failure == ""
        assert waiting.snooze is not None
        assert waiting.snooze.reason == "the budget of nightly is spent"
        midnight = next(iter(desk.windows())).until / MICRO
        assert waiting.snooze.seconds + EARLY == pytest.approx(min(midnight - desk.now(), BUDGET_CHECK), abs=31)


@pytest.mark.parametrize(
    ("prices", "body", "words"),
    [
        ("", {}, "acme/tiny has no price, and a budget applies"),
        (DOLLAR, {"models": ["small"]}, "body.models lets other models than acme/tiny answer"),
    ],
    ids=["no price", "surcharge"],
)
def test_a_job_waits_if_its_fallback_is_unavailable(
    tmp_path: Path, valkey: str, simulator: Simulator, prices: str, body: dict[str, Any], words: str
) -> None:
    toml = acme(simulator, tables=nightly(0.00036, when_exhausted="fallback", fallback="tiny"))
    toml = toml.replace("input_usd_per_mtok = 0.01\noutput_usd_per_mtok = 0.01\n", prices)
    with Desk(tmp_path, valkey, toml) as desk:
        assert desk.deliver(job(1)).answered
        waiting = desk.deliver(job(2, **body))
        assert waiting.failure == ""
        assert waiting.snooze is not None
        assert waiting.snooze.reason.startswith(
            "its own model cannot be paid yet, and the cheaper one cannot be asked:"
        )
        assert words in waiting.snooze.reason
        midnight = next(iter(desk.windows())).until / MICRO
        assert waiting.snooze.seconds + EARLY == pytest.approx(min(midnight - desk.now(), BUDGET_CHECK), abs=31)
        assert desk.deliver(job(3, max_tokens=1_000, **body)).failure == "no_price", "its own will never be paid"
        assert len(simulator.journal()) == 1


def test_a_job_above_the_whole_budget_fails(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly(0.0001))) as desk:
        assert desk.deliver(job(1)).failure == "budget_too_small"
        assert simulator.journal() == []


def test_a_model_without_a_price_fails_under_a_budget(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly(1.0)).replace(DOLLAR, "")) as desk:
        failed = desk.deliver(job(1))
        assert failed.failure == "no_price"
        assert simulator.journal() == []


def test_a_job_waits_until_its_price_can_be_read(tmp_path: Path, valkey: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table's process fails. Nothing is sent: once the prices are known, the budget is too small for either."""
    broken = tmp_path / "path" / "genai_prices"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text('raise OSError("no table here")\n')
    monkeypatch.setenv("PYTHONPATH", str(broken.parent))
    toml = (
        '[providers.openai]\napi = "openai"\napi_key = "env:ACME_KEY"\n'
        "[providers.openai.models.gpt-4o]\n[providers.openai.models.gpt-4o-mini]\n"
        '[models.mix]\ntargets = [{ provider = "openai", model = "gpt-4o" }, '
        '{ provider = "openai", model = "gpt-4o-mini" }]\n'
    )
    with Desk(tmp_path, valkey, toml + nightly(0.00000001)) as desk:
        waiting = desk.deliver(job(1, model="mix"))
        assert waiting.failure == ""
        assert waiting.snooze is not None
        assert waiting.snooze.seconds == priced_routes.AFTER_FAILURE
        assert waiting.snooze.reason.startswith("the price of openai/gpt-4o")
        assert waiting.snooze.reason.endswith("OSError: no table here")
        assert desk.runtime.gates.closed_for(desk.workflow, "mix") > 0, "the others that need it wait, too"
        monkeypatch.delenv("PYTHONPATH")
        desk.runtime.priced.clock = lambda: time.monotonic() + priced_routes.AFTER_FAILURE
        assert desk.deliver(job(1, model="mix"), state=waiting.state).failure == "budget_too_small"


def test_what_a_budget_cannot_hold_is_not_sent(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    """A job that no submit has seen, such as a stock producer's."""
    search = job(1, web_search_options={})
    with Desk(tmp_path, valkey, acme(simulator, tables=nightly(1.0))) as desk:
        failed = desk.deliver(search)
        assert failed.failure == "no_price"
        assert failed.line is not None
        assert "body.web_search_options costs a fee for each use" in failed.line["error"]["message"]
        assert simulator.journal() == []
        assert desk.deliver(search, workflow="free").answered


def test_an_admission_after_midnight_is_paid_by_the_new_day(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    """The clock of the scripts stands still half a second before midnight; a request a second is allowed."""
    toml = acme(simulator, model="rpm = 60\nburst = 1\nheadroom = 1.0", tables=nightly(0.0004))
    with Desk(tmp_path, valkey, toml) as desk:
        today = next(iter(desk.windows()))
        midnight = today.until / MICRO
        desk.set_clock(midnight - 0.5)
        desk.open_gates()  # a test before this one may have closed that of its workflow
        before = simulator.stats()["requests"]
        tomorrow = budgets.window("workflow/nightly", today.limit, "day", "UTC", None, midnight + 1)
        days = [BudgetWindow("workflow/nightly", today.limit, day) for day in (today.window, tomorrow.window)]

        def found() -> list[BudgetState]:
            return desk.run(snapshot(desk.keys, budgets=days)).budgets

        async def both() -> None:
            first = desk.loop.create_task(desk.delivery(job(1)))
            await asyncio.to_thread(wait_for, lambda: simulator.stats()["requests"] > before, what="the first call")
            second = desk.loop.create_task(desk.delivery(job(2)))
            await asyncio.to_thread(wait_for, lambda: found()[1].held, what="the second call's place, tomorrow")
            assert (await first).answered
            desk.set_clock(midnight + 1)
            assert (await second).answered

        desk.wait(both())
        one = simulator.journal()[0]["cost_nusd"]
        assert [(each.spent, each.held) for each in found()] == [(one, 0), (one, 0)]


def test_single_jobs_of_a_batch_budget_wait_until_midnight(tmp_path: Path, valkey: str, simulator: Simulator) -> None:
    toml = acme(simulator, tables=nightly(0.00038, budget_window="batch"))
    with Desk(tmp_path, valkey, toml) as desk:
        assert [each.subject for each in look(desk)] == []
        assert desk.deliver(job(1)).answered
        waits = desk.deliver(job(2))
        assert waits.snooze is not None
        (budget,) = look(desk)
        assert (budget.subject, budget.spent) == ("workflow/nightly/single", simulator.journal()[0]["cost_nusd"])
        assert waits.snooze.seconds <= min(BUDGET_CHECK, budget.resets / MICRO - desk.now() + 60)
        desk.set_clock(budget.resets / MICRO + 1)
        assert desk.deliver(job(2)).answered


def look(desk: Desk) -> tuple[BudgetState, ...]:
    """The budgets that `overnight limits` shows."""
    return limits.read(desk.settings, Store(desk.keys, desk.server), desk.now()).budgets
