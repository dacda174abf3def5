"""The real tokenizer of `overnight[tokenizer]`, and workers that have it and that do not.

It is in a folder of its own, which is put on the path of the processes that are to have it: in the tests' own virtual
environment every worker would load it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from celery import Celery

from tests.support.site import ROOT, Site, job
from tests.support.toml import provider
from workers.models.tokens import MESSAGE_TOKENS

FOLDER = Path(sys.prefix) / "tokenizer"
WITH = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(FOLDER)))}

needs_tokenizer = pytest.mark.skipif(
    not (FOLDER / "toktok").is_dir() and os.environ.get("REQUIRE_TOKENIZER") != "1",
    reason=f"no toktok-rs in {FOLDER}, where `make test` installs it",
)

CONFIG = provider("http://127.0.0.1:9/v1")

COUNT = """
import json, sys
from workers.models import tokens

assert tokens.load_tokenizer()
bodies = [{"model": "m", "messages": [{"role": "user", "content": text}]} for text in json.loads(sys.argv[1])]
print([tokens.count("/v1/chat/completions", body) - tokens.MESSAGE_TOKENS for body in bodies])
"""


@needs_tokenizer
def test_the_tokenizer_counts_texts_and_leaves_the_rest_to_bytes() -> None:
    known = {
        "": 0,
        "hello world": 2,
        "你好世界": 2,
        "<|endoftext|>": 7,  # what a user writes is text, whatever it looks like
        "\ud800" * 4: 3,
    }
    done = subprocess.run(
        [sys.executable, "-c", COUNT, json.dumps(list(known))],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **WITH},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == list(known.values())


@pytest.mark.parametrize(
    ("environment", "expected"),
    [pytest.param(WITH, 2, marks=needs_tokenizer, id="with"), pytest.param({}, 3, id="without")],
)
def test_a_worker_and_an_estimate_count_alike(tmp_path: Path, environment: dict[str, str], expected: int) -> None:
    line = job(1, text="hello world")
    with Site(tmp_path, toml=CONFIG, environment=environment) as site:
        worker = site.start_worker("-I", "tests.support.tasks", concurrency=2, program="workers.celery_worker")
        forecast = json.loads(site.run("estimate", str(site.input([line])), "--json").stdout)
        url = site.redis_url()
        with Celery("producer", broker=url, backend=url, set_as_current=False) as client:
            task = client.send_task(
                "tests.support.tasks.counted", (line["url"], line["body"]), queue="workflow.default"
            )
            assert task.get(timeout=30) == expected + MESSAGE_TOKENS
        assert forecast["input_tokens"] == expected + MESSAGE_TOKENS
        assert "tokenizer" not in worker.said()
