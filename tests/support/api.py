"""The HTTP server of a site, as `overnight serve` starts it.

with served(site) as api:
    files = OpenAI(base_url=api.url, api_key="sk-one").files
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from openai import OpenAI

from tests.support.site import Site, wait_for
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
        "api.log", "tasks", "serve", "--port", "0", *options, environment={**KEYS, **(environment or {})}
    )
    found = wait_for(lambda: re.search(r"serving at (\S+)", process.said()), 90.0, what="the server's port")
    api = Api(process, found[1])
    wait_for(lambda: answers(api), 90.0, what=f"an answer of the server: {process.said()}")
    try:
        yield api
    finally:
        process.stop(15.0)


def answers(api: Api) -> bool:
    """Whether the server answers."""
    try:
        with api.http("") as client:
            return client.get(api.url.removesuffix("/v1") + "/healthz").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
