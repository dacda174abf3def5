"""Prompt caches: what a batch's order and accounts make of them.

Shuffled lines over 20 prefixes, at a provider that caches as OpenAI documents it and at one that caches as Anthropic
does, in the order of the file and with `prompt_cache = true`:

slow  5,000 lines at four calls a minute, with one account and with four, and a small batch of another workflow beside.
      Here the lifetime of a cache matters. Time is compressed, and all runs are at the same time.
fast  2,000 lines without a quota, 200 in flight. Here it matters that a cache is filled before others follow.

    python bench/cache.py [--lines 5000] [--accounts 1 4] [--report bench/results/cache.md]
"""

import argparse
import os
import platform
import random
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.report_file import publish  # noqa: E402 - the repository is not on the path of a script
from tasks.batches import prefix_order  # noqa: E402
from tasks.batches.batch import Batch  # noqa: E402
from tasks.batches.store import Store, open_store  # noqa: E402
from tasks.batches.submit import submit  # noqa: E402
from tasks.monitoring import costs  # noqa: E402
from tests.simulator import Simulator  # noqa: E402
from tests.simulator.prompt_cache import CacheRules, PromptCaches  # noqa: E402
from tests.support.site import Site, job, wait_for  # noqa: E402
from workers.config.settings import load  # noqa: E402

PREFIXES = 20

#: Seconds in which the prefixes come round that take turns.
ROUND = prefix_order.ROUND


@dataclass(frozen=True)
class Pace:
    """How fast the calls of a run are. Times in seconds as they pass here, where one stands for `scale`.

    per_second  calls of all accounts together; 0 for no quota
    latency     the shortest and the longest call
    machine_rpm calls a minute of one prefix that one of OpenAI's machines takes
    """

    scale: float
    per_second: float
    latency: tuple[float, float]
    concurrency: int
    machine_rpm: int

    @property
    def rules(self) -> dict[str, float]:
        """The caches: five minutes, an hour at most."""
        minute = 60 / self.scale
        return {"lifetime": 5 * minute, "longest": 60 * minute, "minute": minute}

    @property
    def quota(self) -> float:
        """Calls a minute, as a limit; 0 for none."""
        return self.per_second * 60


#: Four calls a minute: an account with 30,000 tokens a minute makes as many if a prompt has 7,500.
SLOW = Pace(scale=150.0, per_second=10.0, latency=(0.02, 0.08), concurrency=50, machine_rpm=15)

#: As many as are in flight.
FAST = Pace(scale=1.0, per_second=0.0, latency=(1.0, 3.0), concurrency=100, machine_rpm=15)

#: Jobs of the workflow beside.
BESIDE = 100

#: Providers and their prices in dollars per million tokens: input, output, read from the cache, written to it.
PRICES = {"openai": (0.15, 0.6, 0.075, 0.15), "anthropic": (1.0, 5.0, 0.1, 1.25)}
MODEL = {"openai": "small", "anthropic": "claude"}
NAMES = ("input_usd_per_mtok", "output_usd_per_mtok", "cached_usd_per_mtok", "cache_write_usd_per_mtok")


@dataclass(frozen=True)
class Outcome:
    """One run at one provider. Money in n$; `seconds` of the batch, and of the small one `beside`."""

    provider: str
    accounts: int
    grouped: bool
    input_tokens: int
    cached: int
    cost: int
    saved: int
    seconds: float
    beside: float


def lines(provider: str, count: int) -> list[dict[str, Any]]:
    """Shuffled lines, each with one of the system prompts."""
    found = []
    for number in range(count):
        rules = f"Rule {number % PREFIXES} of {PREFIXES}. " * 400
        line = job(number, model=MODEL[provider])
        if provider == "openai":
            line["body"]["messages"].insert(0, {"role": "system", "content": rules})
        else:
            line["url"] = "/v1/messages"
            mark = {"type": "ephemeral"}
            line["body"]["system"] = [{"type": "text", "text": rules, "cache_control": mark}]
        found.append(line)
    random.Random(7).shuffle(found)
    return found


def cost(provider: str, asked: int, read: int, written: int, made: int) -> float:
    """Dollars of tokens."""
    price, answer, from_cache, to_cache = PRICES[provider]
    return ((asked - read - written) * price + read * from_cache + written * to_cache + made * answer) / 1e6


def ideal(provider: str, given: Iterable[dict[str, Any]]) -> float:
    """Dollars that an ideal order saves: each prefix is read once, and its cache then serves all others."""
    caches = PromptCaches(CacheRules(lifetime=float("inf"), longest=float("inf")))
    saved = 0.0
    for line in given:
        found = caches.call(provider, "one", line["body"], 0.0, 0.0)
        saved -= cost(provider, 0, found.read, found.written, 0)
    return saved


def config(addresses: dict[str, str], accounts: int, pace: Pace) -> str:
    """The configuration: all accounts together have the same quota."""
    keys = ", ".join(f'"env:KEY_{number}"' for number in range(accounts))
    quota = f"rpm = {round(pace.quota / accounts)}\nburst = 2\n" if pace.quota else ""
    found = []
    for name, address in addresses.items():
        prices = "\n".join(f"{each} = {price}" for each, price in zip(NAMES, PRICES[name], strict=True))
        found.append(
            f'[providers.{name}]\napi = "{name}"\nbase_url = "{address}"\napi_key = [{keys}]\n'
            f"[providers.{name}.models.{MODEL[name]}]\n{quota}{prices}\n"
            f"[workflows.{name}-plain]\nbudget_usd = 100\n"
            f"[workflows.{name}-grouped]\nbudget_usd = 100\nprompt_cache = true\n"
            f"[workflows.{name}-beside]\nbudget_usd = 100\n"
        )
    return "".join(found)


def simulator(name: str, accounts: int, pace: Pace) -> Simulator:
    """A provider."""
    model: dict[str, float] = dict(zip(NAMES, PRICES[name], strict=True))
    if pace.quota:
        model |= {"rpm": pace.quota / accounts, "burst_s": 4.0}
    rules = {**pace.rules, "machine_rpm": pace.machine_rpm if name == "openai" else 0}
    return Simulator(prompt_cache=rules, latency=list(pace.latency), answer_tokens=[20, 40], models={"*": model})


@contextmanager
def at_work(accounts: int, pace: Pace) -> Iterator[tuple[dict[str, Simulator], Site]]:
    """Both providers, a server and two workers."""
    environment = {f"KEY_{number}": f"sk-{number}" for number in range(accounts)}
    with (
        tempfile.TemporaryDirectory() as folder,
        simulator("openai", accounts, pace) as openai,
        simulator("anthropic", accounts, pace) as anthropic,
    ):
        toml = config({"openai": openai.base_url, "anthropic": anthropic.base_url}, accounts, pace)
        with Site(Path(folder), toml=toml, environment=environment) as site:
            for _ in range(2):
                site.start_worker(
                    program="bench.compressed_worker",
                    concurrency=pace.concurrency,
                    environment={"CACHE_SCALE": f"{pace.scale}"},
                )
            yield {"openai": openai, "anthropic": anthropic}, site


def measured(count: int, accounts: int, pace: Pace, *, grouped: bool) -> list[Outcome]:
    """One run at both providers at the same time."""
    with at_work(accounts, pace) as (simulators, site):
        store = open_store(load(site.file))
        kind, most = "grouped" if grouped else "plain", 3600
        prefix_order.ROUND = ROUND / pace.scale
        large = {name: submitted(site, store, lines(name, count), f"{name}-{kind}") for name in PRICES}
        wait_for(lambda: all(now(store, each).done > count // 10 for each in large.values()), most, every=0.2)
        small = {name: submitted(site, store, unlike(lines(name, BESIDE)), f"{name}-beside") for name in PRICES}
        every = [*large.values(), *small.values()]
        wait_for(lambda: all(now(store, each).over for each in every), most, every=0.2)
        found = []
        for name in PRICES:
            own, other = now(store, large[name]), now(store, small[name])
            assert own.completed == count, own
            spent = costs.of_batch(store.server, store.keys, own)
            assert spent.cached_tokens == simulators[name].stats()["cached_tokens"]
            seconds = (own.ended - own.began, other.ended - other.began)
            figures = (spent.input_tokens, spent.cached_tokens, spent.cost, spent.cache_saved)
            found.append(Outcome(name, accounts, grouped, *figures, *seconds))
        store.client.close()
        return found


def submitted(site: Site, store: Store, given: list[dict[str, Any]], workflow: str) -> str:
    """Submit in this process, where time is compressed; the batch's id."""
    return submit(str(site.input(given)), load(site.file), store, workflow=workflow)[0].id


def now(store: Store, batch_id: str) -> Batch:
    """The batch as it is now."""
    found = store.batch(batch_id)
    assert found is not None
    return found


def unlike(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines without their system prompts."""
    for line in given:
        line["body"].pop("system", None)
        line["body"]["messages"] = line["body"]["messages"][-1:]
    return given


def table(outcomes: list[Outcome], count: int) -> list[str]:
    """A row for each outcome."""
    best = {name: ideal(name, lines(name, count)) for name in PRICES}
    rows = [
        "| provider | accounts | order | cached | cost | saved | of an ideal order | seconds | 100 jobs beside |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in sorted(outcomes, key=lambda each: (each.provider, -each.accounts), reverse=True):
        order = "`prompt_cache`" if each.grouped else "as the file"
        saved = each.saved / 1e9
        rows.append(
            f"| {each.provider} | {each.accounts} | {order} | {each.cached / each.input_tokens:.1%} "
            f"| ${each.cost / 1e9:.3f} | ${saved:.3f} | {saved / best[each.provider]:.1%} "
            f"| {each.seconds:.0f} | {each.beside:.1f} s |"
        )
    return rows


def report(slow: list[Outcome], count: int, fast: list[Outcome], fast_count: int) -> str:
    """The report."""
    text = [
        "# Prompt caches",
        "",
        f"`make bench-cache`, {os.cpu_count()} cores, Python {platform.python_version()}; all on one machine.",
        "",
        f"Shuffled lines over {PREFIXES} prefixes of about 1,400 tokens, two workers. A cache lives for five minutes, "
        "belongs to an account, and is there once the first answer has come. The one like OpenAI's goes to another "
        f"machine after {SLOW.machine_rpm} calls of one prefix in a minute.",
        "",
        f"## {count:,} lines at {SLOW.quota / SLOW.scale:g} calls a minute, all accounts together",
        "",
        f"A second stands for {SLOW.scale:g}; all runs were at the same time.",
        "",
        *table(slow, count),
        "",
        f"## {fast_count:,} lines without a quota, {2 * FAST.concurrency} in flight",
        "",
        "Both providers share the workers.",
        "",
        *table(fast, fast_count),
        "",
        "- **cached**: the part of the input tokens that came from a cache. **saved**: against the price without "
        "caches, as `overnight status` says it; the simulated provider's own books agree.",
        "- **of an ideal order**: each prefix is read once by one account, and its cache serves all other lines.",
        "- **100 jobs beside**: how long a batch of another workflow takes at the same quota, beside the large one.",
    ]
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=5_000)
    parser.add_argument("--fast-lines", type=int, default=2_000)
    parser.add_argument("--accounts", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--report", type=Path)
    given = parser.parse_args()
    fast = [each for grouped in (False, True) for each in measured(given.fast_lines, 1, FAST, grouped=grouped)]
    print(*fast, sep="\n", flush=True)
    runs = [(accounts, grouped) for accounts in given.accounts for grouped in (False, True)]
    with ThreadPoolExecutor(len(runs)) as pool:
        found = pool.map(lambda run: measured(given.lines, run[0], SLOW, grouped=run[1]), runs)
        slow = [each for outcomes in found for each in outcomes]
    text = report(slow, given.lines, fast, given.fast_lines)
    publish(text, given.report)


if __name__ == "__main__":
    main()
