"""A key that is not there when it is needed: its jobs wait as behind a blocked account, and nothing is lost."""

from pathlib import Path

import pytest

from limits.feedback import unblock_account
from tests.simulator import Simulator
from tests.support.delivery import Desk
from tests.support.site import job
from tests.support.toml import provider

KEY, SPARE = "sk-test-aBcDeFgHiJkLmNoP", "sk-test-qRsTuVwXyZaBcDeF"


@pytest.fixture
def secret(tmp_path: Path, simulator: Simulator) -> Path:
    simulator.clear()
    file = tmp_path / "key"
    file.write_text(KEY)
    return file


def acme(simulator: Simulator, keys: str, base_url: str = "") -> str:
    small = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 1.0\ntpm = 60_000\n"
    return provider(base_url or simulator.base_url, key=keys, models={"small": small})


@pytest.mark.parametrize("how", ["emptied", "unmounted"])
def test_its_jobs_wait_until_it_is_there_again(
    tmp_path: Path, valkey: str, simulator: Simulator, secret: Path, how: str
) -> None:
    with Desk(tmp_path, valkey, acme(simulator, f'"file:{secret}"')) as desk:
        if how == "emptied":
            secret.write_text("")
        else:
            secret.unlink()
        delivery = desk.deliver(job(1))
        after = desk.snapshot()
        assert delivery.snooze is not None
        assert delivery.snooze.reason == "the account acme is blocked; a call tries it now and then"
        assert 25 < delivery.snooze.seconds < 65
        state = delivery.state
        assert (state.attempts, state.crashes, state.calls, state.cost) == (0, 0, 0, 0)
        reason = after.blocked_accounts["acme/0"]
        assert f"api_key: the file {secret} {'is empty' if how == 'emptied' else 'cannot be read'}" in reason
        assert "set it where the workers of acme run, then `overnight limits --clear acme`" in reason
        assert after.open_reservations == 0
        (bucket,) = after.buckets
        assert bucket.in_flight == 0
        assert (desk.spent().calls, desk.spent().presumed, simulator.journal()) == (0, 0, [])

        secret.write_text(KEY)
        assert desk.run(unblock_account(desk.keys, "acme/0"))
        assert desk.deliver(job(1)).answered


def test_it_fails_no_job_before_its_deadline_in_silence(
    tmp_path: Path, valkey: str, simulator: Simulator, secret: Path
) -> None:
    with Desk(tmp_path, valkey, acme(simulator, f'"file:{secret}"')) as desk:
        secret.unlink()
        delivery = desk.deliver(job(1), deadline=desk.now() + 5)
        assert delivery.failure == "deadline_exceeded"
        assert delivery.line is not None
        assert f"the file {secret} cannot be read" in delivery.line["error"]["message"]
        assert desk.snapshot().open_reservations == 0
        assert desk.spent().calls == 0


def test_one_that_is_missing_leaves_the_others(
    tmp_path: Path, valkey: str, simulator: Simulator, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARE_KEY", SPARE)
    with Desk(tmp_path, valkey, acme(simulator, f'["file:{secret}", "env:SPARE_KEY"]')) as desk:
        secret.unlink()
        deliveries = [desk.deliver(job(number)) for number in range(1, 7)]
        assert all(each.answered for each in deliveries)
        assert {entry["headers"]["authorization"] for entry in simulator.journal()} == {f"Bearer {SPARE}"}


def test_a_missing_address_is_reported_in_the_same_way(
    tmp_path: Path, valkey: str, simulator: Simulator, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACME_URL", raising=False)
    with Desk(tmp_path, valkey, acme(simulator, f'"file:{secret}"', "env:ACME_URL")) as desk:
        assert desk.deliver(job(1)).snooze is not None
        assert (
            "base_url (env:ACME_URL): the environment variable ACME_URL is not set"
            in desk.snapshot().blocked_accounts["acme/0"]
        )
        monkeypatch.setenv("ACME_URL", simulator.base_url)
        assert desk.run(unblock_account(desk.keys, "acme/0"))
        assert desk.deliver(job(1)).answered
