"""A file of jobs goes in, a file of answers comes out."""

import json

from tests.simulator import Simulator
from tests.support.site import Site

LINES = [
    {
        "custom_id": f"ticket-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "small", "messages": [{"role": "user", "content": f"Summarise ticket {number}"}]},
    }
    for number in (1, 2, 3)
]


def test_1_a_file_of_jobs_is_a_batch(site: Site) -> None:
    batch = site.submit(LINES, workflow="tickets")
    assert batch.startswith("batch_")
    status = site.wait(batch)
    assert status["status"] == "completed"
    assert status["request_counts"] == {"total": 3, "completed": 3, "failed": 0}


def test_2_each_job_ends_as_one_line(site: Site) -> None:
    lines, errors = site.results(site.submit(LINES, workflow="tickets"))
    assert errors == []
    for line in lines:
        assert line["custom_id"].startswith("ticket-")
        assert line["response"]["status_code"] == 200
        assert line["response"]["body"]["choices"][0]["message"]["content"].startswith("answer ")
        assert line["error"] is None
        assert line["overnight"]["provider"] == "acme"
        assert line["overnight"]["attempts"] == 1


def test_3_the_same_file_is_the_same_batch(site: Site, provider: Simulator) -> None:
    before = len(provider.journal())
    assert site.submit(LINES, workflow="tickets") == site.submit(LINES, workflow="tickets")
    assert len(provider.journal()) == before, "nothing is called, and nothing paid, a second time"


def test_4_a_file_with_mistakes_is_refused_with_all_of_them(site: Site) -> None:
    file = site.folder / "mistakes.jsonl"
    file.write_text(json.dumps(LINES[0]) + '\n{"custom_id": "ticket-1"}\nnot json\n')
    told = site.run("submit", str(file), "-w", "tickets", status=2).stderr
    assert 'line 2: duplicate custom_id "ticket-1" (first used on line 1)' in told
    assert "line 3: not JSON" in told


def test_5_a_single_job_needs_no_batch(site: Site) -> None:
    done = site.python(
        "from tasks import enqueue\n"
        f"line = {LINES[0]!r}\n"
        "print(enqueue(line, workflow='tickets').get(timeout=20)['custom_id'])\n"
    )
    assert done.stdout == "ticket-1\n"
