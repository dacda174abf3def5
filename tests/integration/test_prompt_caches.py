"""Jobs that begin alike: who goes first, at which account, and with which key."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tasks.jobs import prompt_cache
from tests.simulator import Simulator
from tests.support import priced
from tests.support.delivery import Desk
from tests.support.priced import acme
from tests.support.site import Site, job

clean = priced.clean

CACHED = "[workflows.nightly]\nprompt_cache = true\n"
CHAT = "/v1/chat/completions"
BOTH_KEYS = 'api_key = ["env:ACME_KEY", "env:ACME_KEY_2"]'


def alike(number: int, prefix: int = 0, **more: Any) -> dict[str, Any]:
    """A job whose system prompt is one of some."""
    line = job(number, **more)
    line["body"]["messages"].insert(0, {"role": "system", "content": f"Rule {prefix}. " * 600})
    return line


def two_accounts(simulator: Simulator, model: str = "") -> str:
    return acme(simulator, model=model, tables=CACHED).replace('api_key = "env:ACME_KEY"', BOTH_KEYS)


@pytest.fixture
def caching(simulator: Simulator) -> Simulator:
    simulator.configure(prompt_cache={}, latency=0.3)
    return simulator


@pytest.fixture(autouse=True)
def _as_before(simulator: Simulator) -> Any:
    yield
    simulator.configure(prompt_cache=None, latency=0.0)


def test_the_first_goes_ahead_and_the_others_find_its_prompt_cached(
    tmp_path: Path, valkey: str, caching: Simulator
) -> None:
    with Desk(tmp_path, valkey, acme(caching, tables=CACHED)) as desk:
        assert all(each.answered for each in desk.all(*(alike(number) for number in range(10))))
        first, *others = caching.journal()
        assert all(other["at"] >= first["at"] + 0.3 for other in others)
        assert [call["cached_tokens"] > 0 for call in (first, *others)] == [False, *[True] * 9]
        assert desk.spent().cached_tokens == sum(call["cached_tokens"] for call in others)


def test_without_the_setting_all_go_at_once(tmp_path: Path, valkey: str, caching: Simulator) -> None:
    with Desk(tmp_path, valkey, acme(caching)) as desk:
        assert all(each.answered for each in desk.all(*(alike(number) for number in range(10))))
        assert not any(call["cached_tokens"] for call in caching.journal())


def test_a_prefix_stays_at_one_account_and_both_are_used(tmp_path: Path, valkey: str, caching: Simulator) -> None:
    with Desk(tmp_path, valkey, two_accounts(caching)) as desk:
        lines = [alike(number, number % 8) for number in range(40)]
        assert all(each.answered for each in desk.all(*lines))
        accounts: dict[int, set[int]] = {}
        for call in caching.journal():
            accounts.setdefault(int(call["job"].split()[-1].strip(".")) % 8, set()).add(call["key"])
        assert all(len(used) == 1 for used in accounts.values()), accounts
        assert Counter(call["cached_tokens"] > 0 for call in caching.journal()) == {True: 32, False: 8}


def test_another_account_goes_when_the_quota_is_used_up(tmp_path: Path, valkey: str, caching: Simulator) -> None:
    with Desk(tmp_path, valkey, two_accounts(caching, model="rpm = 60\nburst = 2")) as desk:
        assert all(each.answered for each in desk.all(*(alike(number) for number in range(4))))
        assert {call["key"] for call in caching.journal()} == {0, 1}


def test_the_next_goes_ahead_if_the_first_fails(tmp_path: Path, valkey: str, caching: Simulator) -> None:
    caching.configure(failures=[{"mode": "400", "times": 1}])
    with Desk(tmp_path, valkey, acme(caching, tables=CACHED)) as desk:
        deliveries = desk.all(*(alike(number) for number in range(5)))
        assert sum(each.answered for each in deliveries) == 4
        assert sum(call["cached_tokens"] > 0 for call in caching.journal()) == 3


def test_openai_gets_a_key_for_each_prefix(tmp_path: Path, valkey: str, caching: Simulator) -> None:
    toml = f'{acme(caching, tables=CACHED)}[providers.openai]\napi = "openai"\napi_key = "env:ACME_KEY"\n'
    with Desk(tmp_path, valkey, toml) as desk:
        routes = [route for name in ("acme/small", "openai/m") for route in desk.runtime.routes.find(name, CHAT)]
        bodies = {"acme/small": {"model": "small"}, "openai/m": {"model": "m"}}
        keyed = prompt_cache.keyed(bodies, routes, desk.settings, "digest")
        assert keyed == {"acme/small": {"model": "small"}, "openai/m": {"model": "m", "prompt_cache_key": "digest"}}
        own = {"openai/m": {"model": "m", "prompt_cache_key": "mine"}}
        assert prompt_cache.keyed(own, routes, desk.settings, "digest") == own


def test_other_servers_get_no_key(tmp_path: Path, valkey: str, caching: Simulator) -> None:
    with Desk(tmp_path, valkey, acme(caching, tables=CACHED)) as desk:
        assert desk.deliver(alike(1)).answered
        assert "prompt_cache_key" not in caching.journal()[0]["body"]


@pytest.mark.long
def test_copies_and_a_pilot_keep_their_answers_in_another_order(tmp_path: Path) -> None:
    lines = [alike(number, number % 3, text=f"Say {number % 30}.") for number in range(60)]
    table = f"{CACHED}dedupe = true\n"
    with Simulator(prompt_cache={}) as provider, Site(tmp_path, provider, tables=table) as site:
        site.start_worker()
        batch = site.submit(lines, "--pilot", "5", "--yes")
        status = site.wait(batch)
        assert status["request_counts"] == {"total": 60, "completed": 60, "failed": 0}
        assert (status["copies"], len(provider.journal())) == (30, 30)
        answers, _ = site.results(batch)
    texts = {line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"] for line in answers}
    assert len(texts) == 60
    assert all(texts[f"job-{number}"] == texts[f"job-{number + 30}"] for number in range(30))
    assert len(set(texts.values())) == 30
