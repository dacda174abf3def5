"""The same question in two lines is asked, and paid for, once."""

from tests.simulator import Simulator
from tests.support.site import Site, job


def test_1_equal_lines_are_asked_once(site: Site, provider: Simulator) -> None:
    capitals = ["What is the capital of Peru?", "What is the capital of France?"]
    lines = [job(number, text=capitals[number % 2]) for number in range(1, 7)]
    before = len(provider.journal())
    batch = site.submit(lines, "--dedupe", workflow="tickets")
    status = site.wait(batch)
    assert status["request_counts"] == {"total": 6, "completed": 6, "failed": 0}
    assert status["copies"] == 4
    assert len(provider.journal()) - before == 2

    answers, _ = site.results(batch)
    by_id = {line["custom_id"]: line for line in answers}
    assert by_id["job-5"]["response"]["body"] == by_id["job-1"]["response"]["body"]
    assert by_id["job-5"]["overnight"]["copy_of"] == "job-1"
    assert by_id["job-5"]["overnight"]["cost_usd"] == 0
    assert "copy_of" not in by_id["job-1"]["overnight"]


def test_2_lines_that_differ_in_anything_are_all_asked(site: Site, provider: Simulator) -> None:
    lines = [job(number, text="Say a number.", temperature=number / 10) for number in range(1, 4)]
    before = len(provider.journal())
    batch = site.submit(lines, "--dedupe", workflow="tickets")
    assert site.wait(batch)["copies"] == 0
    assert len(provider.journal()) - before == 3
