"""`overnight limits` and `overnight costs`, over what real calls have left behind."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tasks.batches.store import open_store
from tasks.batches.submit import submit
from tasks.console.cli import app
from tasks.monitoring import limits
from tests.simulator import Simulator
from tests.support.delivery import Desk
from tests.support.site import job
from tests.support.toml import PRICES, provider

KEYS = '["env:ACME_KEY", "env:ACME_KEY_2"]'
LIMITS = f"rpm = 600\ntpm = 60_000\nconcurrency = 50\n{PRICES}"
NIGHTLY = '[workflows.nightly]\nbudget_usd = 1.0\ntimezone = "Europe/Berlin"\n'


def bare(simulator: Simulator) -> str:
    """A provider without models: they can only be called as `provider/model`."""
    return provider(simulator.base_url, models={})


@pytest.fixture
def desk(tmp_path: Path, valkey: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("ACME_KEY", "sk-test-aBcDeFgHiJkLmNoP")
    monkeypatch.setenv("ACME_KEY_2", "sk-test-qRsTuVwXyZaBcDeF")
    simulator.configure(failures=[])
    simulator.clear()
    toml = "budget_usd = 5.0\n" + provider(simulator.base_url, key=KEYS, models={"small": LIMITS}) + NIGHTLY
    with Desk(tmp_path, valkey, toml) as made:
        monkeypatch.setenv("OVERNIGHT_CONFIG", str(made.settings.file))
        yield made


def overnight(*arguments: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == status, done.output
    return done.output


def told(*arguments: str) -> Any:
    return json.loads(overnight(*arguments, "--json"))


def test_limits_shows_levels_and_budgets(desk: Desk, simulator: Simulator) -> None:
    assert desk.deliver(job(1)).answered
    cost = simulator.journal()[0]["cost_nusd"] / 1e9
    shown = told("limits")
    assert [each["quota"] for each in shown["quotas"]] == ["acme/0/small", "acme/1/small"]
    used = next(each for each in shown["quotas"] if each["dimensions"]["rpm"]["available"] < 10)
    assert used["dimensions"]["rpm"]["limit"] == 600
    assert used["dimensions"]["rpm"]["rate_per_second"] == pytest.approx(9.7)
    assert (used["in_flight"], used["concurrency"], used["paused_until"]) == (0, 50, None)
    budgets = {each["budget"]: each for each in shown["budgets"]}
    assert set(budgets) == {"all", "workflow/nightly"}
    assert budgets["workflow/nightly"]["spent_usd"] == pytest.approx(cost)
    assert budgets["workflow/nightly"]["left_usd"] == pytest.approx(1 - cost)
    assert budgets["workflow/nightly"]["resets_at"] % 86_400 == 23 * 3_600, "midnight in Berlin, in winter"
    table = overnight("limits")
    for words in ("acme/0/small", "600 rpm", "9.7/s", "0 of 50", "closed", "workflow/nightly", "$5.00", "23:00 UTC"):
        assert words in table


def test_limits_shows_pauses_and_blocked_accounts_until_they_are_cleared(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "insufficient_quota", "times": 2}])
    assert desk.deliver(job(1)).snooze is not None
    shown = told("limits")
    assert {each["account"] for each in shown["latches"]} == {"acme/0", "acme/1"}
    assert "account acme/0 is blocked" in overnight("limits")
    assert "cleared: acme/0, acme/1" in overnight("limits", "--clear", "acme")
    assert "acme was not blocked" in overnight("limits", "--clear", "acme")
    assert told("limits")["latches"] == []
    simulator.configure(failures=[{"mode": "429", "retry_after": "60"}])
    assert desk.deliver(job(1)).snooze is not None
    assert all(each["paused_until"] - desk.now() > 50 for each in told("limits")["quotas"])
    assert "s more" in overnight("limits")
    assert "acme/small is no longer paused" in overnight("limits", "--resume", "acme/small")
    assert "acme/small was not paused" in overnight("limits", "--resume", "acme/small")
    assert all(each["paused_until"] is None for each in told("limits")["quotas"])
    simulator.configure(failures=[])
    assert desk.deliver(job(2)).answered
    assert "not a configured PROVIDER/MODEL" in overnight("limits", "--resume", "small", status=2)


def test_a_circuit_set_by_hand_stays_until_released(desk: Desk, simulator: Simulator) -> None:
    overnight("limits", "--open", "acme/small")
    waiting = desk.deliver(job(1))
    assert waiting.snooze is not None
    assert waiting.snooze.reason == "acme/small is failing: its circuit is open"
    assert simulator.journal() == []
    assert told("limits")["circuits"][0] | {"retries_left": None} == {
        "target": "acme/small",
        "state": "open",
        "by_hand": True,
        "until": None,
        "calls": 0,
        "failures": 0,
        "retries_left": None,
    }
    overnight("limits", "--close", "acme/small")
    assert desk.deliver(job(2)).answered
    assert "held closed by hand" in overnight("limits")
    overnight("limits", "--auto", "acme/small")
    assert not told("limits")["circuits"][0]["by_hand"]


def test_limits_shows_models_that_are_called_without_being_listed(
    tmp_path: Path, valkey: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_KEY", "sk-test-aBcDeFgHiJkLmNoP")
    simulator.configure(failures=[])
    with Desk(tmp_path, valkey, bare(simulator)) as desk:
        monkeypatch.setenv("OVERNIGHT_CONFIG", str(desk.settings.file))
        assert told("limits")["quotas"] == []
        for model in ("tiny", "small", "small"):
            assert desk.deliver(job(1, model=f"acme/{model}")).answered
        overnight("limits", "--open", "acme/tiny")
        shown = told("limits")
        assert [each["quota"] for each in shown["quotas"]] == ["acme/0/small", "acme/0/tiny"]
        assert [(each["target"], each["state"]) for each in shown["circuits"]] == [
            ("acme/small", "closed"),
            ("acme/tiny", "open"),
        ]
        assert "held open by hand" in overnight("limits")
        # Yesterday's calls count, older ones do not; of many models the most called are shown.
        store, now = open_store(desk.settings), time.time()
        assert limits.unlisted(desk.settings, store, now + 86_400, store.live()) == [
            ("acme", "small"),
            ("acme", "tiny"),
        ]
        assert limits.unlisted(desk.settings, store, now + 2 * 86_400, store.live()) == []
        monkeypatch.setattr(limits, "MOST_UNLISTED", 1)
        assert limits.unlisted(desk.settings, store, now, store.live()) == [("acme", "small")]


def test_limits_shows_blockers_before_the_first_call(
    tmp_path: Path, valkey: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_KEY", "sk-test-aBcDeFgHiJkLmNoP")
    lines = tmp_path / "in.jsonl"
    lines.write_text(json.dumps(job(1, model="acme/small")) + "\n")
    with Desk(tmp_path, valkey, bare(simulator)) as desk:
        monkeypatch.setenv("OVERNIGHT_CONFIG", str(desk.settings.file))
        submit(str(lines), desk.settings, open_store(desk.settings), workflow="nightly")
        overnight("limits", "--open", "acme/small")
        (circuit,) = told("limits")["circuits"]
        assert (circuit["target"], circuit["by_hand"]) == ("acme/small", True)


def test_unconfigured_names_are_reported(desk: Desk) -> None:
    del desk
    assert 'no provider "acm" is configured; configured: acme' in overnight("limits", "--clear", "acm", status=2)
    assert '"acme" is not a configured PROVIDER/MODEL' in overnight("limits", "--open", "acme", status=2)
    assert "--since must be a day" in overnight("costs", "--since", "soon", status=2)


def test_costs_tells_money_by_workflow_model_provider_and_batch(desk: Desk, simulator: Simulator) -> None:
    assert "nothing was spent" in overnight("costs")
    simulator.configure(failures=[{"mode": "garbage", "times": 1}])
    assert desk.deliver(job(1)).answered
    assert desk.deliver(job(2), workflow="weekly").answered
    billed = [entry["cost_nusd"] / 1e9 for entry in simulator.journal()]
    shown = told("costs")
    assert shown["total"]["cost_usd"] == pytest.approx(sum(billed[1:]))
    assert shown["total"]["presumed_usd"] >= billed[0]
    assert shown["total"]["failed_usd"] == 0
    assert {each["name"]: each["calls"] for each in shown["workflows"]} == {"nightly": 2, "weekly": 1}
    assert [each["name"] for each in shown["models"]] == ["acme/small"]
    assert [each["name"] for each in shown["providers"]] == ["acme"]
    assert [each["name"] for each in shown["batches"]] == ["(single jobs)"]
    assert [each["name"] for each in told("costs", "-w", "weekly")["workflows"]] == ["weekly"]
    table = overnight("costs", "--since", "3d")
    for words in ("nightly", "acme/small", "cost, presumed", "all"):
        assert words in table
