"""One provider, one overnight.toml and one worker for the whole tutorial."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from limits.client.connection import Server
from limits.keys import Keys
from tests.simulator import Simulator
from tests.support.site import Site
from tests.support.toml import provider as provider_table

#: What a user writes into overnight.toml after the provider.
WORKFLOWS = """
[workflows.summaries]
budget_usd = 0.0001             # less than one call of `small` can cost
when_exhausted = "fallback"
fallback = "tiny"

[workflows.strict]
budget_usd = 0.00042            # enough for one call of `small`, and not for two
when_exhausted = "fail"

[workflows.patient]
budget_usd = 0.0405             # one long answer; when_exhausted = "wait" is the default

[workflows.support]
max_calls = 3                   # of one job

[workflows.tickets]

[workflows.invoices]
check = "my_checks:invoice"
on_invalid = "retry"            # the same line asks again, twice at most
escalate = "small"              # the second time here

[workflows.manuals]
prompt_cache = true

[schedules.tickets]
cron = "* * * * *"
workflow = "tickets"
input = "tickets.jsonl"
"""

MODELS = {
    "small": "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0",
    "reader": "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0\ncached_usd_per_mtok = 0.1",
    "tiny": "input_usd_per_mtok = 0.01\noutput_usd_per_mtok = 0.02",
    "slow": "concurrency = 1\ninput_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0",
}


@pytest.fixture(scope="package")
def provider() -> Iterator[Simulator]:
    """A provider of LLM calls: an HTTP server on this machine that counts, refuses and bills as real ones do."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory, provider: Simulator) -> Iterator[Site]:
    """A folder with an overnight.toml, a module of agents, and a worker."""
    folder = tmp_path_factory.mktemp("walkthrough")
    for module in ("my_agents.py", "my_checks.py"):
        shutil.copy(Path(__file__).with_name(module), folder)
    toml = 'agents = ["my_agents"]\n' + provider_table(provider.base_url, models=MODELS) + WORKFLOWS
    with Site(folder, toml=toml) as made:
        made.start_worker()
        yield made


@pytest.fixture
def server(site: Site) -> Iterator[Server]:
    """The Redis server that holds what the workers share."""
    with redis.Redis.from_url(site.redis_url()) as client:
        yield Server(client)


@pytest.fixture
def keys(request: pytest.FixtureRequest) -> Keys:
    """A namespace for one test."""
    return Keys(request.node.name)
