"""What bad input gets: every problem with its line, nothing queued, exit status 2."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.site import KEY, Site, job, jobs
from tests.support.toml import provider

CONFIG = provider("http://127.0.0.1:9/v1")

PROMPT = "a very private prompt"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site"), toml=CONFIG) as made:
        yield made


def changed(number: int, **fields: Any) -> dict[str, Any]:
    return job(number, text=PROMPT) | fields


def without(number: int, key: str) -> dict[str, Any]:
    return {name: value for name, value in job(number, text=PROMPT).items() if name != key}


def test_each_bad_line_has_its_message_and_nothing_is_queued(site: Site) -> None:
    good = json.dumps(job(100))
    bad = [
        b"{this is not JSON",
        json.dumps(without(2, "custom_id")).encode(),
        json.dumps(changed(100)).encode(),  # the custom_id of the good line before
        json.dumps(changed(4, url="/v1/images")).encode(),
        json.dumps(changed(5, method="GET")).encode(),
        json.dumps(changed(6, body={"model": "smal", "messages": [{"role": "user", "content": PROMPT}]})).encode(),
        json.dumps(changed(7, body={"model": "small"})).encode(),
        json.dumps(without(8, "body")).encode(),
        b'{"custom_id": "nine", "text": "\xff"}',
        json.dumps([PROMPT]).encode(),
    ]
    file = site.folder / "ten.jsonl"
    file.write_bytes(b"\n".join([good.encode(), *bad]) + b"\n")
    done = site.run("run", str(file), "-o", "out.jsonl", status=2)
    told = done.stderr.splitlines()
    assert len(told) == 10
    expected = [
        "line 2: not JSON",
        "line 3: custom_id is missing",
        'line 4: duplicate custom_id "job-100" (first used on line 1)',
        "line 5: url must be one of",
        'line 6: method must be "POST"',
        'line 7: body.model: no model "smal" is configured; did you mean small?',
        "line 8: body: messages is missing",
        "line 9: body must be an object",
        "line 10: not UTF-8",
        "line 11: must be a JSON object, got a list",
    ]
    for words, line in zip(expected, told, strict=True):
        assert f"ten.jsonl: {words}" in line
    assert done.stdout == ""
    assert PROMPT not in done.stderr
    assert not (site.folder / "out.jsonl").exists()
    assert json.loads(site.run("status", "--json").stdout) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty: give it one JSON object a line"),
        (b"\n\n  \n", "is empty: give it one JSON object a line"),
        (b"x" * 100_000_000, "line 1: longer than 52 MiB"),
        (b"\xff\xfe\x00", "line 1: not UTF-8"),
    ],
)
def test_a_file_that_holds_no_jobs(site: Site, content: bytes, words: str) -> None:
    file = site.folder / "odd.jsonl"
    file.write_bytes(content)
    assert f"odd.jsonl: {words}" in site.run("submit", str(file), status=2).stderr


def test_a_file_that_is_not_there_and_a_folder(site: Site) -> None:
    assert "gone.jsonl: there is no such file" in site.run("submit", "gone.jsonl", status=2).stderr
    assert "is a folder; name a file of JSON lines" in site.run("submit", ".", status=2).stderr


def test_after_twenty_problems_the_rest_are_counted(site: Site) -> None:
    file = site.folder / "many.jsonl"
    file.write_bytes(b"{\n" * 50)
    told = site.run("submit", str(file), status=2).stderr.splitlines()
    assert len(told) == 21
    assert told[-1].endswith("many.jsonl: and 30 more problems")


def test_an_unset_key_variable_is_named_at_start(tmp_path: Path) -> None:
    site = Site(tmp_path, toml=CONFIG)
    del site.environment["ACME_KEY"]
    for arguments in (["run", str(site.input(jobs(1))), "-o", "out.jsonl"], ["worker"]):
        told = site.run(*arguments, status=2).stderr
        assert "the environment variable ACME_KEY is not set (providers.acme.api_key)" in told


def test_a_wrong_configuration_is_reported_and_nothing_starts(tmp_path: Path) -> None:
    site = Site(tmp_path, toml=CONFIG + "rmp = 3\n")
    told = site.run("status", status=2).stderr
    assert told.strip().endswith('overnight.toml:6: providers.acme.models.small.rmp: unknown key; did you mean "rpm"?')
    assert not (tmp_path / ".overnight").exists()


def test_a_workflow_must_be_a_name(site: Site) -> None:
    told = site.run("submit", str(site.input(jobs(1))), "-w", "no such/name", status=2).stderr
    assert "is no workflow name" in told


def test_an_unknown_batch_is_reported(site: Site) -> None:
    for command in ("status", "wait", "cancel"):
        assert 'there is no batch "batch_x"' in site.run(command, "batch_x", status=2).stderr


def test_a_server_that_is_away_is_exit_status_3(tmp_path: Path) -> None:
    site = Site(tmp_path, toml='redis_url = "redis://:hush-hush@127.0.0.1:1/0"\n' + CONFIG)
    done = site.run("submit", str(site.input(jobs(1))), status=3)
    assert "unreachable" in done.stderr
    assert "hush-hush" not in done.stderr


def test_check_tells_what_is_missing_and_how_to_mend_it(tmp_path: Path) -> None:
    site = Site(tmp_path, toml=CONFIG)
    told = site.run("check", status=2).stderr
    assert "✓ redis: Valkey 9" in told
    assert "✗ provider acme: the provider cannot be reached" in told
    assert "Is base_url right" in told
    assert "! model acme/small: has no limits" in told
    assert KEY not in told


def test_a_data_dir_that_cannot_be_written(tmp_path: Path) -> None:
    site = Site(tmp_path, toml='data_dir = "/proc/overnight"\n' + CONFIG)
    done = site.run("status", status=3)
    assert "/proc/overnight/redis cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
