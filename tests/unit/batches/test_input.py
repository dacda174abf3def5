"""A file of jobs is checked line by line, and problems are reported with their lines."""

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tasks.batches.estimate import Tally
from tasks.batches.input import MOST_PROBLEMS, InputError, check_file
from tasks.batches.precheck import MOST_KNOWN, Precheck
from tasks.jobs import job as jobs
from workers.config.settings import load
from workers.models.calibration import Ratios
from workers.models.routing import NoRoute

TOML = """
[providers.acme]
api = "openai"
base_url = "http://127.0.0.1:1"
[providers.acme.models.small]
rpm = 600
tpm = 3_000
input_usd_per_mtok = 10
output_usd_per_mtok = 20
[workflows.tight]
budget_usd = 0.05
"""


@pytest.fixture
def precheck(tmp_path: Path) -> Precheck:
    (tmp_path / "overnight.toml").write_text(TOML)
    return Precheck(load(tmp_path / "overnight.toml"), "tight", lambda _: {})


def _line(number: int, text: str = "hello", **body: Any) -> dict[str, Any]:
    message = {"role": "user", "content": text}
    content = {"model": "small", "messages": [message], "max_tokens": 10, **body}
    return {"custom_id": f"job-{number}", "method": "POST", "url": "/v1/chat/completions", "body": content}


def _file(folder: Path, *lines: dict[str, Any]) -> str:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_a_duplicate_id_is_reported_with_both_lines(tmp_path: Path, precheck: Precheck) -> None:
    lines = [_line(number) for number in range(300)]
    lines[123]["custom_id"] = "job-7"
    lines[299]["custom_id"] = "job-7"
    found = check_file(_file(tmp_path, *lines), precheck.check)
    assert found.messages() == [
        'line 124: duplicate custom_id "job-7" (first used on line 8)',
        'line 300: duplicate custom_id "job-7" (first used on line 8)',
    ]
    assert found.lines == 300


def test_a_missing_input_is_an_error() -> None:
    with pytest.raises(InputError, match="no such file"):
        check_file("/nowhere/in.jsonl", lambda _line, _size: None)


def test_lines_that_pass_by_their_bytes_pass_by_their_tokens(precheck: Precheck) -> None:
    chance = random.Random(1)
    spared = refused = 0
    for number in range(2_000):
        body: dict[str, Any] = {"max_tokens": chance.choice([1, 100, 900, 3_500])}
        if chance.random() < 0.2:
            body |= chance.choice([{"n": 3}, {"tools": []}, {"max_completion_tokens": 4_000}])
        text = chance.choice(["a", "é", "漢", '"']) * chance.randrange(1, 1_500)
        value = _line(number, text, **body)
        line, problems = jobs.check(value)
        assert line is not None, problems
        size = len(json.dumps(value, ensure_ascii=False).encode())
        with suppress(NoRoute):
            precheck.check(line)
            continue
        refused += 1
        with pytest.raises(NoRoute):
            precheck.check(line, size)
    for number in range(50):
        line, _ = jobs.check(_line(number))
        assert line is not None
        precheck.check(line)
        known = precheck._known[line.model, line.url]
        spared += precheck._surely_fits(line, 200, known)  # type: ignore[arg-type]  # it has passed
    assert refused > 100
    assert spared == 50


def test_an_estimate_from_every_tenth_line_is_close(tmp_path: Path, precheck: Precheck) -> None:
    lines = [_line(number, "word " * (20 + number % 50)) for number in range(6_000)]
    tally = Tally(precheck, Ratios("none"))
    check_file(_file(tmp_path, *lines), precheck.check, lambda line, size, _: tally.add(line, size))
    forecast = tally.forecast()
    every = [precheck_input(line) for line in lines]
    assert forecast.lines == 6_000
    assert forecast.output == pytest.approx(60_000, rel=0.02)
    assert forecast.input == pytest.approx(sum(every), rel=0.05)
    assert forecast.cost == pytest.approx(forecast.input * 10_000 + forecast.output * 20_000, rel=0.01)
    # Of 3,000 tokens a minute 97 % are used; the larger of input and output counts.
    assert forecast.seconds == pytest.approx(forecast.input / (3_000 * 0.97 / 60), rel=0.02)
    assert forecast.limit == "3,000 tokens a minute at acme/small"


def precheck_input(line: dict[str, Any]) -> int:
    from workers.models import tokens  # noqa: PLC0415 - here only

    return tokens.count(line["url"], line["body"])


def test_a_file_of_other_content_is_not_read_to_its_end(tmp_path: Path, precheck: Precheck) -> None:
    (tmp_path / "in.jsonl").write_text("no json\n" * (3 * MOST_PROBLEMS))
    found = check_file(str(tmp_path / "in.jsonl"), precheck.check)
    assert found.messages()[0] == "has more than 10,000 problems; checked up to line 10,001"
    assert found.messages()[1].startswith("line 1: not JSON")
    assert found.count == MOST_PROBLEMS + 1
    assert found.bytes < (tmp_path / "in.jsonl").stat().st_size / 2


def test_a_refused_model_keeps_none_of_its_lines(precheck: Precheck) -> None:
    """An exception that is raised again would gain a traceback each time, which holds the lines."""
    line, _ = jobs.check(_line(1, model="unknown"))
    assert line is not None
    for _ in range(50):
        with pytest.raises(NoRoute) as found:
            precheck.check(line)
    assert len(found.traceback) < 5


def test_refused_models_are_remembered_up_to_a_bound(precheck: Precheck) -> None:
    for number in range(MOST_KNOWN + 50):
        line, _ = jobs.check(_line(1, model=f"unknown-{number}"))
        assert line is not None
        with pytest.raises(NoRoute, match=f"unknown-{number}"):
            precheck.check(line)
    assert len(precheck._known) == MOST_KNOWN
