"""A pilot on the command line: it stops a bad night early, asks on a terminal, and survives a kill."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulator import Simulator
from tests.support.fixtures import simulator_fixture, site_fixture
from tests.support.site import Site, job, jobs, wait_for
from tests.support.toml import PRICES

#: Twenty of them are less than 1 %.
LINES = 2_100

simulator = simulator_fixture()
site = site_fixture(model=PRICES, tables="[workflows.cached]\nprompt_cache = true")


@pytest.fixture(autouse=True)
def _fresh(simulator: Simulator) -> None:
    simulator.clear()
    simulator.configure(latency=0.0, flaws=[])


def calls(simulator: Simulator) -> int:
    return int(simulator.stats()["requests"])


def command(source: Path, *options: str) -> tuple[str, ...]:
    out = str(source.with_suffix(".out"))
    return ("run", str(source), "-o", out, "-w", "nightly", "--workers", "1", *options)


@pytest.mark.long
def test_a_pilot_stops_a_bad_night_at_less_than_one_percent(site: Site, simulator: Simulator) -> None:
    simulator.configure(flaws=[{"kind": "refused", "part": 0.3}])
    source = site.input(jobs(LINES, text="", temperature=0.1))
    stopped = site.run(*command(source, "--pilot", "20", "--max-invalid", "5%"), status=4)
    assert "20 of 2,100 lines" in stopped.stderr
    assert "refused" in stopped.stderr
    assert "of its lines are invalid, more than 5.0%" in stopped.stderr
    assert calls(simulator) == 20
    spent = simulator.stats()["cost_nusd"]
    again = site.run(*command(source, "--max-invalid", "5%"), status=4)
    assert "refused" in again.stderr
    assert calls(simulator) == 20, "nothing is asked twice"

    simulator.configure(flaws=[])
    site.run(*command(source, "--yes"))
    assert calls(simulator) == LINES
    assert spent < 0.01 * simulator.stats()["cost_nusd"]
    assert len(source.with_suffix(".out").read_text().splitlines()) == LINES


@pytest.mark.long
def test_a_run_that_is_killed_in_its_pilot_goes_on(site: Site, simulator: Simulator) -> None:
    simulator.configure(latency=1.0)
    source = site.input(jobs(60, temperature=0.2))
    first = site.popen(*command(source, "--pilot", "10"))
    wait_for(lambda: calls(simulator) == 10, what="the calls of the pilot")
    first.kill()
    first.communicate()
    simulator.configure(latency=0.0)
    second = site.run(*command(source, "--pilot", "10"), status=4)
    assert "already submitted" in second.stderr
    assert "10 of 60 lines" in second.stderr
    assert calls(simulator) <= 20, "only what was in flight is asked again"
    site.run(*command(source, "--yes"))
    assert calls(simulator) <= 70


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 4), pytest.param("Ctrl-C", 4, marks=pytest.mark.long)])
def test_a_terminal_is_asked(site: Site, simulator: Simulator, answer: str, status: int) -> None:
    source = site.input(jobs(30, temperature=0.3 + len(answer) / 100 + status / 10))
    shown, words = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tasks", *command(source, "--pilot", "3")],
        cwd=site.folder,
        env=site.environment,
        stdin=words,
        stdout=subprocess.DEVNULL,
        stderr=words,
        start_new_session=True,
    )
    os.close(words)
    said = b""
    while b"other 27 lines?" not in said:
        said += os.read(shown, 4_096)
    if answer == "Ctrl-C":
        process.send_signal(signal.SIGINT)
    else:
        os.write(shown, answer.encode() + b"\n")
    while _more(shown):
        pass
    assert process.wait(60) == status
    assert calls(simulator) == (30 if answer == "y" else 3)
    os.close(shown)


def _more(shown: int) -> bytes:
    """What else a terminal shows; nothing after its programs have ended."""
    try:
        return os.read(shown, 4_096)
    except OSError:
        return b""


def test_submit_waits_for_the_pilot_and_keeps_to_its_price(site: Site, simulator: Simulator) -> None:
    worker = site.start_worker()
    source = site.input(jobs(50, temperature=0.4))
    options = ("submit", str(source), "-w", "nightly", "--pilot", "5")
    stopped = site.run(*options, "--max-usd", "0.0001", status=4)
    batch = stopped.stdout.strip()
    assert "more than $0.0001" in stopped.stderr
    status = site.status(batch)
    assert status["request_counts"]["completed"] == calls(simulator) == 5
    assert status["pilot"] == {"lines": 5, "over": False}
    assert "your go-ahead" in status["waits_for"]
    assert "overnight resume batch_" in site.run(*options, "--max-usd", "0.0001", status=4).stderr
    site.run("resume", batch)
    assert "waits for no go-ahead" in site.run("resume", batch, status=2).stderr
    assert site.wait(batch)["request_counts"]["completed"] == calls(simulator) == 50
    worker.stop()


def test_a_pilot_copies_and_prompt_caches_go_together(site: Site, simulator: Simulator) -> None:
    """Prompt caches store the input in another order, which the places of pilot and copies follow."""
    lines = [job(number, text=f"question {number % 20}") for number in range(1, 61)]
    for number, line in enumerate(lines):
        line["body"]["messages"].insert(0, {"role": "system", "content": f"rules {number % 20 % 3} " + "word " * 2_000})
    source = site.input(lines)
    out = source.with_suffix(".out")
    options = ("-w", "cached", "--dedupe", "--pilot", "4", "--yes", "--workers", "1")
    shown = site.run("run", str(source), "-o", str(out), *options).stderr
    assert "4 of 20 lines" in shown
    assert calls(simulator) == 20
    answers = {line["custom_id"]: line for line in map(json.loads, out.read_text().splitlines())}
    assert len(answers) == 60
    said = {name: line["response"]["body"]["choices"][0]["message"]["content"] for name, line in answers.items()}
    assert len(set(said.values())) == 20
    for number in range(1, 61):
        assert said[f"job-{number}"] == said[f"job-{(number - 1) % 20 + 1}"]
        assert ("copy_of" in answers[f"job-{number}"]["overnight"]) == (number > 20)


def test_a_wrong_percentage_is_refused(site: Site) -> None:
    source = site.input(jobs(1))
    told = site.run(*command(source, "--max-invalid", "half"), status=2).stderr
    assert "write 5% or 0.5%" in told
