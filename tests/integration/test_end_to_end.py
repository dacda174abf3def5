"""The whole way of a job, on real parts: commands, server, workers and provider are processes of their own."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.simulator import Simulator, expected_text
from tests.support.fixtures import simulator_fixture, site_fixture
from tests.support.site import KEY, Site, job, jobs, read_lines, wait_for

simulator = simulator_fixture(keys=[KEY])

site = site_fixture(workers=1)


@pytest.fixture(autouse=True)
def as_new(simulator: Simulator) -> Iterator[None]:
    yield
    simulator.configure(failures=[], latency=0.0, models={"*": {}})
    simulator.clear()


def text_of(line: dict[str, Any]) -> str:
    return str(line["response"]["body"]["choices"][0]["message"]["content"])


def test_new_workflows_are_found_and_every_line_answered_once(site: Site, simulator: Simulator) -> None:
    inputs = {"nightly-a": jobs(30), "nightly-b": [job(number, text=f"b {number}") for number in range(20)]}
    batches = {name: site.submit(lines, workflow=name) for name, lines in inputs.items()}
    for name, batch in batches.items():
        status = site.wait(batch)
        count = len(inputs[name])
        assert status["status"] == "completed"
        assert status["workflow"] == name
        assert status["request_counts"] == {"total": count, "completed": count, "failed": 0}
        lines, errors = site.results(batch)
        assert errors == []
        bodies = {line["custom_id"]: line["body"] for line in inputs[name]}
        assert Counter(line["custom_id"] for line in lines) == Counter(dict.fromkeys(bodies, 1))
        for line in lines:
            assert text_of(line) == expected_text(bodies[line["custom_id"]])
            assert line["error"] is None
            assert set(line["overnight"]) == {"provider", "model", "lane", "attempts", "cost_usd", "seconds", "checks"}
            assert (line["overnight"]["provider"], line["overnight"]["model"]) == ("acme", "small")
        assert status["usage"]["input_tokens"] == sum(
            line["response"]["body"]["usage"]["prompt_tokens"] for line in lines
        )
    assert len(simulator.journal()) == 50


def test_the_same_file_is_the_same_batch_unless_new(site: Site, simulator: Simulator) -> None:
    file = site.input(jobs(5, text="again"))
    lines = [json.dumps(job(number, text=f"again {number}")) for number in range(5)]
    file.write_text("\n".join(lines))
    ids = [site.run("submit", str(file), "-w", "again", "--wait").stdout.strip() for _ in range(2)]
    assert ids[0] == ids[1]
    assert len(simulator.journal()) == 5
    other = site.run("submit", str(file), "-w", "again", "--wait", "--new").stdout.strip()
    assert other != ids[0]
    assert len(simulator.journal()) == 10


def test_refusals_are_in_the_error_file_with_their_words(site: Site, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "400", "job": "bad"}])
    batch = site.submit([*jobs(3), job(4, text="bad one")], workflow="refused")
    assert site.wait(batch)["request_counts"] == {"total": 4, "completed": 3, "failed": 1}
    assert site.run("wait", batch, status=None).returncode == 1
    lines, errors = site.results(batch)
    assert len(lines) == 3
    assert [line["custom_id"] for line in errors] == ["job-4"]
    assert errors[0]["response"]["status_code"] == 400
    assert errors[0]["error"]["code"]
    assert errors[0]["error"]["message"]
    assert errors[0]["overnight"]["attempts"] == 1


def test_an_unusable_answer_costs_an_attempt_and_is_repeated(site: Site, simulator: Simulator) -> None:
    modes = ["500", "reset", "half", "empty", "html", "no_message", "error_in_200", "garbage", "408", "529"]
    simulator.configure(failures=[{"mode": mode, "times": 1, "job": f"after {mode}."} for mode in modes])
    lines = [job(number, text=f"mended after {mode}.") for number, mode in enumerate(modes)]
    batch = site.submit(lines, workflow="mended")
    assert site.wait(batch)["request_counts"]["completed"] == len(modes)
    answers, _ = site.results(batch)
    assert [line["overnight"]["attempts"] for line in answers] == [2] * len(modes)


def test_a_plain_celery_app_sends_jobs_and_gets_lines(site: Site) -> None:
    plain = Celery("somebody", broker=site.redis_url(), backend=site.redis_url())
    with plain.connection_for_write() as connection:
        sent = [
            plain.send_task(
                "overnight.job",
                kwargs={"job": job(number, text=f"plain {number}")},
                queue="workflow.plain",
                connection=connection,
            )
            for number in range(3)
        ]
    for number, result in enumerate(sent):
        line = result.get(timeout=20)
        assert line["custom_id"] == f"job-{number}"
        assert text_of(line) == expected_text(job(number, text=f"plain {number}")["body"])
    wrong = plain.send_task("overnight.job", kwargs={"job": {"custom_id": "x"}}, queue="workflow.plain")
    line = wrong.get(timeout=20)
    assert line["error"]["code"] == "invalid_request"
    assert "body must be an object" in line["error"]["message"]
    plain.close()


def test_enqueue_gives_the_result_line_of_one_job(site: Site) -> None:
    program = (
        "from tests.support.site import job\nfrom tasks import enqueue\n"
        "line = enqueue(job(1, text='one alone'), workflow='single').get(timeout=20)\n"
        "print(line['response']['body']['choices'][0]['message']['content'])\n"
    )
    done = site.python(program)
    assert done.stdout.strip() == expected_text(job(1, text="one alone")["body"])
    refused = site.python("from tasks import enqueue\nenqueue({'custom_id': 'x'})\n", status=1)
    assert "InputError" in refused.stderr
    assert "body must be an object" in refused.stderr


def test_cancel_stops_waiting_jobs_and_lets_running_ones_finish(site: Site, simulator: Simulator) -> None:
    simulator.configure(latency=2.0)
    batch = site.submit([job(number, text=f"cancelled {number}") for number in range(1_500)], workflow="cancelled")
    wait_for(lambda: site.status(batch)["request_counts"]["completed"] > 0, what="first answers")
    site.run("cancel", batch)
    status = site.wait(batch)
    assert status["status"] == "cancelled"
    lines, errors = site.results(batch)
    assert len(lines) + len(errors) == 1_500
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    answered = {entry["job"] for entry in simulator.journal()}
    assert len(lines) == len(answered) < 1_500, "what was called and paid for is in the output"
    assert "has already ended" in site.run("cancel", batch, status=2).stderr


def test_one_command_does_it_all_and_repeats_nothing(tmp_path: Path, simulator: Simulator) -> None:
    site = Site(tmp_path, simulator)
    file = site.input(jobs(40))
    done = site.run("run", str(file), "-o", "out.jsonl", "-w", "nightly", "--workers", "2", seconds=90)
    assert len(read_lines(tmp_path / "out.jsonl")) == 40
    assert not (tmp_path / "out.errors.jsonl").exists()
    assert "40 succeeded, 0 failed" in done.stderr
    assert done.stdout == ""
    (tmp_path / "out.jsonl").unlink()
    again = site.run("run", str(file), "-o", "out.jsonl", "-w", "nightly")
    assert "no call is repeated" in again.stderr
    assert len(read_lines(tmp_path / "out.jsonl")) == 40
    assert len(simulator.journal()) == 40
    for log in (tmp_path / ".overnight" / "logs").iterdir():
        words = log.read_text()
        assert KEY not in words
        assert "Say something" not in words


@pytest.mark.parametrize(
    ("rpm", "burst", "count"),
    [(1_500, 5, 200), pytest.param(300, 60, 400, marks=[pytest.mark.chaos, pytest.mark.timeout(300)])],
)
def test_a_strict_provider_is_obeyed_by_two_workers(tmp_path: Path, rpm: int, burst: int, count: int) -> None:
    """Nothing is lost, nothing doubled, and no call goes out before an announced Retry-After is over."""
    model = {"rpm": rpm, "counting": "linear", "burst_s": burst}
    with (
        Simulator(keys=[KEY], models={"*": model}, retry_after="fraction", headers=False) as simulator,
        Site(tmp_path, simulator) as site,  # which knows of no limit: only the 429s slow it down
    ):
        site.start_workers(2)
        batch = site.submit(jobs(count))
        status = site.wait(batch, 240)
        assert status["request_counts"] == {"total": count, "completed": count, "failed": 0}
        lines, errors = site.results(batch)
        assert errors == []
        assert Counter(line["custom_id"] for line in lines) == Counter(f"job-{n}" for n in range(1, count + 1))
        journal = simulator.journal()
        assert not [entry for entry in journal if entry["early"] or entry["early_job"]]
        assert Counter(entry["job"] for entry in journal if entry["status"] == 200).most_common(1)[0][1] == 1
        assert status["throttled"] == sum(entry["status"] == 429 for entry in journal) > 0
