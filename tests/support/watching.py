"""What watches a site: Flower and the exporter, as processes of their own, and what they answer."""

import base64
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message

from prometheus_client.parser import text_string_to_metric_families

from tests.support.site import Site, wait_for

USER = "operator:let-me-in"

_PATIENCE = "--inspect-timeout=1000"


@contextmanager
def command(site: Site, *arguments: str, says: str, **environment: str) -> Iterator[str]:
    """A running command, and the address in its line with `says`."""
    log = site.folder / f"{arguments[0]}.log"
    with log.open("wb") as words:
        process = subprocess.Popen(
            [sys.executable, "-m", "tasks", *arguments],
            cwd=site.folder,
            env={**site.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
        )

    def told() -> str:
        assert process.poll() is None, log.read_text()
        lines = [line for line in log.read_text().splitlines() if says in line]
        return lines[0].split(says)[1].strip() if lines else ""

    try:
        yield wait_for(told, 30.0, what=arguments[0])
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def flower(site: Site, *options: str, user: str = USER, **environment: str) -> Iterator[str]:
    """Flower, and its address."""
    options = ("--port=0", "--address=127.0.0.1", _PATIENCE, *options)
    with command(site, "flower", *options, says="Visit me at", FLOWER_BASIC_AUTH=user, **environment) as url:
        yield url


@contextmanager
def exporter(site: Site) -> Iterator[str]:
    """`overnight metrics`, and the address of its page."""
    with command(site, "metrics", "--port", "0", says="metrics at") as url:
        yield url


def ask(
    url: str, *, user: str = "", token: str = "", data: bytes | None = None, seconds: float = 20.0
) -> tuple[int, str, Message]:
    """Status, text and headers of an answer."""
    request = urllib.request.Request(url, data=data)
    if user:
        request.add_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=seconds) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers


class Scrape:
    """A page of metrics."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def sum(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels; AssertionError if there are none."""
        found = [
            sample.value
            for sample in self.samples
            if sample.name == name and all(sample.labels.get(key) == value for key, value in labels.items())
        ]
        assert found, f"no sample of {name} {labels}"
        return sum(found)

    def labels(self, name: str, label: str) -> set[str]:
        """The values that a label has."""
        return {sample.labels[label] for sample in self.samples if sample.name == name}

    @property
    def names(self) -> set[str]:
        return {sample.name for sample in self.samples}
