"""What blocks a thread or a file under agents: jobs beside them go on, and nothing is paid that was not sent."""

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.simulator import Simulator
from tests.support.agents import line
from tests.support.fixtures import simulator_fixture
from tests.support.site import Site, jobs, wait_for
from tests.support.toml import AGENTS, PRICES, provider
from tests.support.unreachable import full_backlog

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

MORE = f"{AGENTS}visibility_timeout = 10.0"


simulator = simulator_fixture("function", latency=0.2)


def the_books_balance(site: Site, simulator: Simulator) -> None:
    """Every billed nano-dollar is reported, and nothing is presumed for calls that were never written."""
    total = json.loads(site.run("costs", "--json").stdout)["total"]
    billed = sum(entry["cost_nusd"] for entry in simulator.journal())
    assert (total["presumed_calls"], round(total["total_usd"] * 1e9)) == (0, billed)
    assert json.loads(site.run("limits", "--json").stdout)["reservations"] == 0


def test_steps_that_block_every_thread_hold_up_no_other_job(tmp_path: Path, simulator: Simulator) -> None:
    """60 agents whose step takes 3 s, beside 40 plain jobs; each new connection looks up a name."""
    site = Site(tmp_path, simulator, more=MORE, model=PRICES, provider="timeout = 10.0")
    site.file.write_text(site.file.read_text().replace("127.0.0.1", "localhost"))
    with site:
        site.start_worker(concurrency=200)
        agents = site.submit([line("blocked", number, seconds=3) for number in range(60)])
        wait_for(lambda: site.client().zcard(site.keys.job_leases(agents)) >= 40)
        plain = site.submit(jobs(40), workflow="beside")
        assert site.wait(plain)["request_counts"]["completed"] == 40
        assert site.wait(agents, 120)["request_counts"]["completed"] == 60
        assert len(simulator.journal()) == 100
        the_books_balance(site, simulator)
        times = [entry["at"] for entry in simulator.journal() if not entry["job"].endswith("/after")]
        print(f"40 jobs beside 60 blocked agents: {max(times) - min(times):.1f} s")  # noqa: T201 - this run's figure
        assert max(times) - min(times) < 5


def test_unknown_names_and_silent_ports_cost_nothing(tmp_path: Path, simulator: Simulator) -> None:
    """One provider's name is looked up for ever, another's port drops SYNs, beside one that answers."""
    fault = tmp_path / "hangs"
    fault.touch()
    folder = Path(__file__).parent / "faults" / "names"
    with full_backlog() as port:
        tables = "".join(
            provider(url, name, more="timeout = 3.0", models={name: PRICES})
            for name, url in (
                ("lost", f"http://provider.invalid:{simulator.port}"),
                ("deaf", f"http://127.0.0.1:{port}"),
            )
        )
        tables += "[workflows.nightly]\nmax_attempts = 100\n"
        site = Site(tmp_path, simulator, more=f"{MORE}\nbudget_usd = 5.0", model=PRICES, tables=tables)
        site.environment["OVERNIGHT_FAULT"] = str(fault)
        site.environment["PYTHONPATH"] = f"{folder}:{site.environment['PYTHONPATH']}"
        with site:
            site.start_worker(concurrency=200)
            lost = site.submit(jobs(20, model="lost", max_tokens=20_000))
            deaf = site.submit(jobs(20, model="deaf", max_tokens=20_000))
            wait_for(lambda: "connect_timeout" in site.workers[0].said(), 60, what="a call that could not be made")
            plain = site.submit(jobs(200), workflow="beside")
            assert site.wait(plain)["request_counts"]["completed"] == 200
            times = [entry["at"] for entry in simulator.journal()]
            assert max(times) - min(times) < 5
            assert len(simulator.journal()) == 200
            site.run("cancel", deaf)
            site.wait(deaf)
            fault.unlink()  # names are found again
            status = site.wait(lost, 120)
            assert status["request_counts"]["completed"] == 20
            assert len(simulator.journal()) == 220
            the_books_balance(site, simulator)


def test_a_storage_that_refuses_under_agents_loses_and_repeats_nothing(tmp_path: Path, simulator: Simulator) -> None:
    """Answers of 100 kB, while the storage is away, and a worker that is killed before it comes back."""
    count, calls = 20, 6
    simulator.configure(answer_tokens=20_000, latency=1.5)
    files, away = tmp_path / ".overnight" / "files", tmp_path / ".overnight" / "away"
    with Site(tmp_path, simulator, more=MORE, model=PRICES) as site:
        worker = site.start_worker(concurrency=count)
        batch = site.submit([line("wordy", number, together=2, then=calls - 2) for number in range(count)])
        wait_for(lambda: simulator.stats()["requests"] >= 2 * count)
        files.rename(away)
        files.write_text("no folder")
        # Each job waits with what it has bought; none buys more.
        wait_for(lambda: site.client().zcard(site.keys.job_leases(batch)) == 0, 60, what="all wait")
        bought = len(simulator.journal())
        assert bought < count * calls
        told = json.loads(site.run("status", batch, "--json").stdout)
        worker.kill()
        site.start_worker(concurrency=count)
        time.sleep(20.0)  # longer than a job waits before it tries the storage again
        assert len(simulator.journal()) == bought, "it bought an answer that has no place"
        files.unlink()
        away.rename(files)
        status = site.wait(batch, 120)
        found, _ = site.results(batch)
        assert status["request_counts"] == {"total": count, "completed": count, "failed": 0}, told
        assert all(len(one["response"]["body"]) == calls for one in found)
        paid = Counter(entry["job"] for entry in simulator.journal())
        assert len(paid) == count * calls
        assert max(paid.values()) == 1
        the_books_balance(site, simulator)
        journals = [path for path in files.rglob("*") if path.is_file() and "journal" in path.parts]
        assert journals == [], "answers of jobs that have ended stay in the storage"
