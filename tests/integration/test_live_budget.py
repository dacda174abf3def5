"""A budget with 500 live calls in flight."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from limits.budget import NANO
from limits.client.connection import Server
from tasks.monitoring.costs import read, today
from tests.simulator import Simulator
from tests.support.api import Api, served
from tests.support.site import Site, wait_for
from tests.support.toml import PRICES, provider

CHAT: dict[str, Any] = {"model": "acme/small", "max_tokens": 50}


@pytest.fixture
def tight(tmp_path: Path, simulator: Simulator) -> Iterator[tuple[Site, Api]]:
    """A server whose budget pays for about 60 calls at their highest price."""
    toml = f"budget_usd = {BUDGET / NANO}\n" + provider(simulator.base_url, models={"small": PRICES})
    with Site(tmp_path, toml=toml) as site, served(site) as api:
        yield site, api


#: n$; a call holds 0.37 million at most, and costs about 0.03 million.
BUDGET = 22_000_000


@pytest.mark.long
def test_500_calls_in_flight_hold_the_budget_to_the_nano_dollar(tight: tuple[Site, Api], simulator: Simulator) -> None:
    site, api = tight
    simulator.configure(latency=0.3)
    simulator.clear()

    async def call(client: aiohttp.ClientSession, number: int) -> tuple[int, float]:
        body = {**CHAT, "messages": [{"role": "user", "content": f"call {number}"}], "stream": number % 2 == 1}
        headers = {"authorization": "Bearer any", "x-overnight-max-wait": "2"}
        async with client.post(f"{api.url}/chat/completions", json=body, headers=headers) as answer:
            text = (await answer.read()).decode()
            found = re.search(r"cost_usd=([\d.]+)", text)
            return answer.status, float(found[1] if found else answer.headers.get("x-overnight-cost-usd", 0))

    async def all_of_them() -> list[tuple[int, float]]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
            return await asyncio.gather(*(call(client, number) for number in range(500)))

    answers = asyncio.run(all_of_them())
    statuses = Counter(status for status, _ in answers)
    billed = sum(entry["cost_nusd"] for entry in simulator.journal())
    with site.client() as client:
        server = Server(client)
        wait_for(lambda: read(server, site.keys, today()).total.calls == statuses[200], what="settlements")
        spent = read(server, site.keys, today()).total
    assert set(statuses) <= {200, 402, 429}
    assert statuses[200] >= 50
    assert spent.total == billed <= BUDGET
    assert sum(round(cost * NANO) for _, cost in answers) == billed
