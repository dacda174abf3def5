"""A few answers before the whole bill: `--pilot` answers some random lines, and shows what the whole would take."""

from tests.simulator import Simulator
from tests.support.site import Site, jobs


def test_1_a_pilot_comes_first_and_the_rest_follows(site: Site, provider: Simulator) -> None:
    before = len(provider.journal())
    source = site.input(jobs(30, text="", temperature=0.7))
    shown = site.run("submit", str(source), "-w", "tickets", "--pilot", "5", status=4)
    assert "5 of 30 lines" in shown.stderr
    assert "for the whole batch" in shown.stderr
    assert len(provider.journal()) - before == 5, "without a terminal to ask on, the batch waits"

    batch = shown.stdout.strip()
    site.run("resume", batch)
    assert site.wait(batch)["request_counts"]["completed"] == 30
    assert len(provider.journal()) - before == 30, "the pilot's answers are part of the batch"


def test_2_a_pilot_can_decide_alone(site: Site) -> None:
    source = site.input(jobs(30, text="", temperature=0.8))
    options = ("-w", "tickets", "--pilot", "5", "--max-invalid", "5%")
    stopped = site.run("submit", str(source), *options, "--max-usd", "0.00001", status=4)
    assert "Stopped after its pilot: the batch would cost" in stopped.stderr
    batch = site.run("submit", str(source), *options, "--max-usd", "1").stdout.strip()
    assert site.wait(batch)["request_counts"]["completed"] == 30
