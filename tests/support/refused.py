"""One account at a provider whose every answer a test writes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.jobs import retry
from tests.support.answering import AnsweringProvider, completion
from tests.support.delivery import Desk
from tests.support.site import job
from tests.support.toml import PRICES, provider

#: The account's key at first, and the one that its file has later.
KEY = "sk-test-aBcDeFgHiJkLmNoP"
LATER = "sk-test-qRsTuVwXyZaBcDeF"


@pytest.fixture(scope="module")
def raw() -> Iterator[AnsweringProvider]:
    with AnsweringProvider(lambda _: completion("fine")) as made:
        yield made


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(KEY)
    return file


@pytest.fixture
def desk(
    tmp_path: Path, valkey: str, raw: AnsweringProvider, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    monkeypatch.setattr(retry, "BACKOFF", 0.02)
    raw.clear()
    acme = provider(raw.base_url, key=f'"file:{secret}"', models={"m": PRICES, "n": PRICES})
    with Desk(tmp_path, valkey, "budget_usd = 5.0\n" + acme) as made:
        yield made


def asking(model: str, numbers: range) -> list[dict[str, Any]]:
    return [job(number, model=model) for number in numbers]


def told(line: dict[str, Any] | None) -> dict[str, Any]:
    assert line is not None
    error: dict[str, Any] = line["error"]
    return error
