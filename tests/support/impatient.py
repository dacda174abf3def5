"""A provider whose calls time out soon, retried with a short backoff."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.jobs import retry
from tests.simulator import Simulator
from tests.support.delivery import Desk
from tests.support.toml import PRICES, provider


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF", 0.05)


@pytest.fixture
def desk(tmp_path: Path, valkey: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("ACME_KEY", "sk-test-aBcDeFgHiJkLmNoP")
    monkeypatch.setenv("SPARE_KEY", "sk-test-qRsTuVwXyZaBcDeF")
    simulator.configure(failures=[], models={"*": {}}, retry_after="seconds", latency=0.0)
    simulator.clear()
    with Desk(tmp_path, valkey, quick(simulator)) as made:
        yield made


def quick(simulator: Simulator, name: str = "acme", model: str = "small", timeout: float = 0.25) -> str:
    """A provider whose calls time out soon."""
    return provider(simulator.base_url, name, more=f"timeout = {timeout}", models={model: PRICES})


def ways(simulator: Simulator, kind: str) -> str:
    """A model `mix` with one way; two keys of one target; two keys with one quota; or two targets."""
    first = '{ provider = "acme", model = "small", weight = 1000 }'
    if kind == "targets":
        spare = quick(simulator, "spare", "tiny")
        second = '{ provider = "spare", model = "tiny", weight = 0.001 }'
        return f"{quick(simulator)}{spare}[models.mix]\ntargets = [{first}, {second}]\n"
    toml = quick(simulator)
    if kind != "one":
        more = "\nshared_quota = true" if kind == "keys of one quota" else ""
        toml = toml.replace('"env:ACME_KEY"', f'["env:ACME_KEY", "env:SPARE_KEY"]{more}')
    return f"{toml}[models.mix]\ntargets = [{first}]\n"
