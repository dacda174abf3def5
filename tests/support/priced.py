"""A provider whose token costs 1,000 n$, and budgets over it."""

import pytest

from tests.simulator import Simulator
from tests.support.toml import provider

#: Microseconds in a second.
MICRO = 1_000_000
#: Prices of one dollar a million tokens either way: a token is 1,000 n$. A job of `site.job` has a prompt of some
#: 30 bytes, so its ceiling is 354 tokens (16 more a message, 256 a prompt, and 50 of output), and it uses 35 or so.
DOLLAR = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 1.0\n"
CHEAP = "input_usd_per_mtok = 0.01\noutput_usd_per_mtok = 0.01"


@pytest.fixture(autouse=True)
def clean(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    simulator.configure(failures=[], models={"*": {"output_usd_per_mtok": 1.0}}, answer_tokens=8, headers=True)
    simulator.clear()
    monkeypatch.setenv("ACME_KEY", "sk-test-aBcDeFgHiJkLmNoP")
    monkeypatch.setenv("ACME_KEY_2", "sk-test-qRsTuVwXyZaBcDeF")


def acme(simulator: Simulator, *, more: str = "", model: str = "", tables: str = "") -> str:
    return provider(simulator.base_url, more=more, models={"small": f"{DOLLAR}{model}", "tiny": CHEAP}) + f"{tables}\n"


def nightly(budget: float, **more: object) -> str:
    rows = "".join(f"{name} = {value!r}\n" for name, value in more.items())
    return f"[workflows.nightly]\nbudget_usd = {budget}\n{rows}".replace("'", '"')
