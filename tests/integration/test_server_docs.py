"""The examples of docs/server.md run as they are, and the page and the document that the server shows are true."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.server.openapi import DOCUMENT
from tests.simulator import Simulator
from tests.support.api import CLIENTS, ONE, Api, api_fixture, jsonl
from tests.support.site import ROOT, Site, jobs, wait_for

PAGE = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")

BATCHES = PAGE[PAGE.index("## Batches") : PAGE.index("## Live calls")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, simulator: Simulator) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("api"), simulator, tables=CLIENTS) as made:
        made.start_worker(ready=False)
        (made.folder / "tickets.jsonl").write_bytes(jsonl(jobs(3)))
        yield made


api = api_fixture()


def example(language: str, api: Api) -> str:
    found = re.search(rf"```{language}\n(.*?)```", BATCHES, re.DOTALL)
    assert found is not None
    return found[1].replace("http://127.0.0.1:8080/v1", api.url)


def run(site: Site, *command: str, seconds: float = 90.0, **more: str) -> str:
    environment = {**os.environ, "OVERNIGHT_KEY": ONE, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **more}
    done = subprocess.run(
        command, cwd=site.folder, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_the_example_in_python(site: Site, api: Api) -> None:
    out = run(site, sys.executable, "-c", example("python", api))
    assert out.startswith("completed BatchRequestCounts(completed=3, failed=0, total=3)")
    assert out.count('"custom_id"') == 3


@pytest.mark.long
def test_the_example_for_curl(site: Site, api: Api) -> None:
    out = run(site, "bash", "-c", example("bash", api))
    assert '"status":"validating"' in out
    batch = re.search(r"batch_\w+", out)
    assert batch is not None
    with api.sdk() as sdk:
        wait_for(lambda: sdk.batches.retrieve(batch[0]).status == "completed")


@pytest.mark.long
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs node")
def test_the_example_in_javascript_with_the_sdk_of_npm(site: Site, api: Api, tmp_path: Path) -> None:
    run(site, "npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(tmp_path), "openai@7")
    (tmp_path / "example.mjs").write_text(example("javascript", api))
    (tmp_path / "tickets.jsonl").write_bytes(jsonl(jobs(3)))
    done = subprocess.run(
        ["node", "example.mjs"],
        cwd=tmp_path,
        env={**os.environ, "OVERNIGHT_KEY": ONE},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("completed { total: 3, completed: 3, failed: 0 }")
    assert done.stdout.count('"custom_id"') == 3


@pytest.mark.long
def test_the_page_names_the_address_and_the_document_is_served(api: Api) -> None:
    base = api.url.removesuffix("/v1")
    with api.http("") as client:
        assert f'base_url="{api.url}"' in client.get(base).text
        outside = {"host": "api.example.com", "x-forwarded-proto": "https"}
        assert 'base_url="https://api.example.com/v1"' in client.get(base, headers=outside).text
        assert client.get(f"{base}/openapi.json").json() == DOCUMENT
