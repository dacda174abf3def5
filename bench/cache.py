"""Prompt caches: what a batch's order and accounts make of them.

5,000 shuffled lines over 20 prefixes, at a provider that caches as OpenAI documents it and at one that caches as
Anthropic does, with one account and with four: in the order of the file, and with `prompt_cache = true`. Beside each
runs a small batch of another workflow. Time is compressed, so that the lifetime of a cache matters. All runs are at
the same time.

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

from bench.compressed_worker import CACHE_SCALE  # noqa: E402 - the repository is not on the path of a script
from bench.report_file import publish  # noqa: E402
from limits.client.connection import Server  # noqa: E402
from tasks.batches.batch import Batch  # noqa: E402
from tasks.batches.store import Store  # noqa: E402
from tasks.monitoring import costs  # noqa: E402
from tests.simulator import Simulator  # noqa: E402
from tests.simulator.prompt_cache import CacheRules, PromptCaches  # noqa: E402
from tests.support.site import Site, job, wait_for  # noqa: E402

PREFIXES = 20

#: Calls a second of all accounts together: four a minute, as an account with 30,000 tokens a minute makes them whose
#: prompts have 7,500.
PACE = 10.0

#: Seconds that an entry of a cache lives: five minutes.
LIFETIME = 300.0 / CACHE_SCALE

#: Jobs of the workflow beside.
BESIDE = 100

#: Providers and their prices in dollars per million tokens: input, output, read from the cache, written to it.
PRICES = {"openai": (0.15, 0.6, 0.075, 0.15), "anthropic": (1.0, 5.0, 0.1, 1.25)}
MODEL = {"openai": "small", "anthropic": "claude"}
NAMES = ("input_usd_per_mtok", "output_usd_per_mtok", "cached_usd_per_mtok", "cache_write_usd_per_mtok")


@dataclass(frozen=True)
class Outcome:
    """One run at one provider. Money in n$, `beside` in seconds."""

    provider: str
    accounts: int
    grouped: bool
    input_tokens: int
    cached: int
    cost: int
    saved: int
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


def config(addresses: dict[str, str], accounts: int) -> str:
    """The configuration: all accounts together have the same quota."""
    keys = ", ".join(f'"env:KEY_{number}"' for number in range(accounts))
    rpm = round(PACE * 60 / accounts)
    found = []
    for name, address in addresses.items():
        prices = "\n".join(f"{each} = {price}" for each, price in zip(NAMES, PRICES[name], strict=True))
        found.append(
            f'[providers.{name}]\napi = "{name}"\nbase_url = "{address}"\napi_key = [{keys}]\n'
            f"[providers.{name}.models.{MODEL[name]}]\nrpm = {rpm}\nburst = 1\n{prices}\n"
            f"[workflows.{name}-plain]\nbudget_usd = 100\n"
            f"[workflows.{name}-grouped]\nbudget_usd = 100\nprompt_cache = true\n"
            f"[workflows.{name}-beside]\nbudget_usd = 100\n"
        )
    return "".join(found)


@contextmanager
def at_work(accounts: int, workers: int) -> Iterator[tuple[dict[str, Simulator], Site]]:
    """Both providers, a server and workers."""
    rules = {"lifetime": LIFETIME, "longest": 12 * LIFETIME, "minute": 60 / CACHE_SCALE}
    rpm = PACE * 60 / accounts
    simulators = {}
    for name, (price, answer, read, write) in PRICES.items():
        model = {"rpm": rpm, "burst_s": 2.0, **dict(zip(NAMES, (price, answer, read, write), strict=True))}
        simulators[name] = Simulator(
            prompt_cache=rules, latency=[0.02, 0.08], answer_tokens=[20, 40], models={"*": model}
        )
    environment = {f"KEY_{number}": f"sk-{number}" for number in range(accounts)}
    with tempfile.TemporaryDirectory() as folder, simulators["openai"] as one, simulators["anthropic"] as other:
        toml = config({"openai": one.base_url, "anthropic": other.base_url}, accounts)
        with Site(Path(folder), toml=toml, environment=environment) as site:
            for _ in range(workers):
                site.start_worker(program="bench.compressed_worker", concurrency=50)
            yield simulators, site


def measured(arguments: argparse.Namespace, accounts: int, grouped: bool) -> list[Outcome]:
    """One run at both providers at the same time."""
    with at_work(accounts, arguments.workers) as (simulators, site):
        store = Store(site.keys, Server(site.client()))
        kind = "grouped" if grouped else "plain"
        most = 10 * arguments.lines / PACE + 60
        large = {name: site.submit(lines(name, arguments.lines), workflow=f"{name}-{kind}") for name in PRICES}
        wait_for(lambda: all(now(store, each).done > arguments.lines // 10 for each in large.values()), most, every=0.2)
        small = {name: site.submit(unlike(lines(name, BESIDE)), workflow=f"{name}-beside") for name in PRICES}
        every = [*large.values(), *small.values()]
        wait_for(lambda: all(now(store, each).over for each in every), most, every=0.2)
        found = []
        for name in PRICES:
            own, other = now(store, large[name]), now(store, small[name])
            assert own.completed == arguments.lines, own
            spent = costs.of_batch(store.server, store.keys, own)
            assert spent.cached_tokens == simulators[name].stats()["cached_tokens"]
            beside = other.ended - other.began
            figures = (spent.input_tokens, spent.cached_tokens, spent.cost, spent.cache_saved)
            found.append(Outcome(name, accounts, grouped, *figures, beside))
        store.client.close()
        return found


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


def report(arguments: argparse.Namespace, outcomes: list[Outcome]) -> str:
    """The report."""
    best = {name: ideal(name, lines(name, arguments.lines)) for name in PRICES}
    text = [
        "# Prompt caches",
        "",
        f"`make bench-cache`, {os.cpu_count()} cores, Python {platform.python_version()}; all on one machine.",
        "",
        f"{arguments.lines:,} shuffled lines over {PREFIXES} prefixes of about 1,900 tokens, {arguments.workers} workers. "
        f"All accounts together make {PACE * 60 / CACHE_SCALE:g} calls a minute; a cache lives for five minutes, belongs "
        f"to an account, and is there once the first answer has begun. A second stands for {CACHE_SCALE / 60:g} minutes.",
        "",
        "| provider | accounts | order | cached | cost | saved | of an ideal order | 100 jobs beside |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in outcomes:
        order = "`prompt_cache`" if each.grouped else "as the file"
        saved = each.saved / 1e9
        text.append(
            f"| {each.provider} | {each.accounts} | {order} | {each.cached / each.input_tokens:.1%} "
            f"| ${each.cost / 1e9:.3f} | ${saved:.3f} | {saved / best[each.provider]:.1%} | {each.beside:.1f} s |"
        )
    text += [
        "",
        "- **cached**: the part of the input tokens that came from a cache. **saved**: against the price without caches, "
        "as `overnight status` says it; the simulated provider's own books agree.",
        "- **of an ideal order**: each prefix is read once by one account, and its cache serves all other lines.",
        "- **100 jobs beside**: how long a batch of another workflow takes at the same quota.",
    ]
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=5_000)
    parser.add_argument("--accounts", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    runs = [(accounts, grouped) for accounts in arguments.accounts for grouped in (False, True)]
    with ThreadPoolExecutor(len(runs)) as pool:
        outcomes = [found for each in pool.map(lambda run: measured(arguments, *run), runs) for found in each]
    text = report(arguments, sorted(outcomes, key=lambda each: (each.provider, each.accounts), reverse=True))
    publish(text, arguments.report)


if __name__ == "__main__":
    main()
