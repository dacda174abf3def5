"""The HTTP server of a site, as `overnight serve` starts it.

with served(site) as api:
    files = OpenAI(base_url=api.url, api_key="sk-one").files

`api_fixture` serves the site of a file of tests, and `sdk_fixture` is OpenAI's client for it.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.support.site import Line, Site, wait_for
from tests.support.toml import PRICES
from tests.support.worker_process import Worker

#: Two clients with two workflows each; `one` is rotating its key.
CLIENTS = """
[workflows.nightly]
[workflows.adhoc]
[workflows.secret]
[clients.one]
key = ["env:KEY_ONE", "env:KEY_ONE_OLD"]
workflows = ["nightly", "adhoc"]
[clients.two]
key = "env:KEY_TWO"
workflows = ["adhoc"]
"""

#: Everything is scarce: no call fits into the budget of `adhoc`, `tight` takes one call a minute, a file has 1 MB.
SCARCE = (
    CLIENTS.replace("[workflows.adhoc]", "[workflows.adhoc]\nbudget_usd = 0.000001")
    + "[server]\nmax_upload_mb = 1\n"
    + f"[providers.acme.models.tight]\n{PRICES}rpm = 1\n"
)

ONE, ONE_OLD, TWO = "sk-client-one-0123456789", "sk-client-one-9876543210", "sk-client-two-0123456789"

KEYS = {"KEY_ONE": ONE, "KEY_ONE_OLD": ONE_OLD, "KEY_TWO": TWO}


@dataclass(frozen=True, slots=True)
class Api:
    """A running server."""

    process: Worker
    url: str

    def sdk(self, key: str = ONE, **options: object) -> OpenAI:
        """OpenAI's client for this server."""
        options = {"max_retries": 0, "timeout": 60.0, **options}
        return OpenAI(base_url=self.url, api_key=key, http_client=httpx.Client(trust_env=False), **options)  # type: ignore[arg-type]

    def http(self, key: str = ONE, **options: object) -> httpx.Client:
        """A plain client with this key; '' sends none."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=60.0, **options)  # type: ignore[arg-type]

    def log(self) -> str:
        """What the server has logged."""
        return self.process.said()


@contextmanager
def served(site: Site, *options: str, environment: dict[str, str] | None = None) -> Iterator[Api]:
    """Run `overnight serve` on a free port; a site stops what it has started."""
    process = site._start(
        f"api-{len(site.workers)}.log",
        "tasks",
        "serve",
        "--port",
        "0",
        *options,
        environment={**KEYS, **(environment or {})},
    )
    found = wait_for(lambda: re.search(r"serving at (\S+)", process.said()), 90.0, what="the server's port")
    api = Api(process, found[1])
    wait_for(lambda: answers(api), 90.0, what=f"an answer of the server: {process.said()}")
    try:
        yield api
    finally:
        process.stop(15.0)


def api_fixture(scope: Any = "module") -> Any:
    """The HTTP server of the file's site."""

    @pytest.fixture(name="api", scope=scope)
    def api(site: Site) -> Iterator[Api]:
        with served(site) as running:
            yield running

    return api


def sdk_fixture(name: str = "sdk", key: str = ONE, scope: Any = "function") -> Any:
    """OpenAI's client for the file's HTTP server, with this key."""

    @pytest.fixture(name=name, scope=scope)
    def sdk(api: Api) -> Iterator[OpenAI]:
        with api.sdk(key) as client:
            yield client

    return sdk


def answers(api: Api) -> bool:
    """Whether the server answers."""
    try:
        with api.http("") as client:
            return client.get(api.url.removesuffix("/v1") + "/healthz").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def jsonl(lines: list[Line]) -> bytes:
    """The lines as a file's content."""
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def upload(sdk: OpenAI, lines: list[Line] | bytes, **more: Any) -> str:
    """Upload lines; the file's id."""
    content = lines if isinstance(lines, bytes) else jsonl(lines)
    return sdk.files.create(file=("tickets.jsonl", content), purpose="batch", **more).id


def submit(sdk: OpenAI, file: str, **more: Any) -> openai.types.Batch:
    """Create a batch of a file."""
    options = {"endpoint": "/v1/chat/completions", "completion_window": "24h", **more}
    return sdk.batches.create(input_file_id=file, **options)


def ended(sdk: OpenAI, batch: str, seconds: float = 60.0) -> openai.types.Batch:
    """The batch when it has ended."""
    over = {"completed", "failed", "expired", "cancelled"}
    return wait_for(lambda: (found := sdk.batches.retrieve(batch)).status in over and found, seconds, every=0.1)
