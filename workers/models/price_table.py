"""The price table of `genai-prices`, asked in a process of its own: `python -m workers.models.price_table`.

Reads a JSON list of queries (`workers.models.prices.Query`) and writes `{"rates": {name: …}, "warnings": […]}`.
Nothing else imports this module or that package: it takes half a second and some 50 MB.

The table finds models by patterns, so that a name which it has never seen can match its neighbour. Every
match is therefore told in `Rates.source` by the table's own name, and one that is not literal is a warning.
"""

import json
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from workers.models.prices import Band, Query, Rates, encode, per_million

#: What may follow a model's name without making it another model: its release, or `latest`.
_RELEASE = re.compile(r"(?:[-@:](?:\d{8}|\d{4}-\d{2}-\d{2}|\d{4}|latest|v\d+(?::\d+)?))+")

#: Prices that are counted in tokens, by where they belong. The dearest of a place counts: no report of usage
#: parts the tokens further everywhere.
_OUTPUT = (
    "output_mtok",
    "output_reasoning_mtok",
    "output_audio_mtok",
    "output_image_mtok",
    "output_video_mtok",
)
_MEDIA = ("input_audio_mtok", "input_image_mtok", "input_video_mtok")
_CACHE = ("cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")
#: Keys that are used, and those that need no warning: cached media are charged as media (`Rates.cost`), and a
#: search is a hosted tool's fee, due only where a body asks for the tool.
_KNOWN = frozenset({"input_mtok", "requests_kcount", "cache_audio_read_mtok", "cache_image_read_mtok"})
_KNOWN |= {"web_searches_kcount", "storage_searches_kcount", *_OUTPUT, *_MEDIA, *_CACHE}

#: Tiers that cost less than the standard prices, so that these are an upper bound where a tier is not listed.
_CHEAPER = ("batch", "flex")


def answer(queries: list[Query], now: datetime) -> dict[str, Any]:
    """The answer to all queries, as JSON has it. ImportError where the table is not installed."""
    rates: dict[str, Rates] = {}
    warnings: list[str] = []
    for query in queries:
        found, told = find(query, now)
        warnings += [f"{query.name}: {each}" for each in told]
        if found is not None:
            rates[query.name] = found
    return {"rates": encode(rates), "warnings": warnings}


def find(query: Query, now: datetime) -> tuple[Rates | None, list[str]]:
    """The rates of one model, None where the table has none; and what its reader should know about them."""
    from genai_prices import __version__, data_snapshot  # noqa: PLC0415  # heavy; only here

    snapshot = data_snapshot.get_snapshot()
    provider = _provider(snapshot.providers, query)
    if provider is None:
        return None, []
    model = provider.find_model(query.model, all_providers=snapshot.providers)
    if model is None:
        return None, []
    warnings: list[str] = []
    context = _context(query.tier)
    if context and not _has_variant(provider, model, context):
        if query.tier not in _CHEAPER:
            return None, [f"the table has no price for {query.tier!r}, and the standard price may be too low"]
        warnings.append(f"the table has no price for {query.tier!r}; the standard price is used")
    prices = [model.get_prices(now + timedelta(hours=hour), context or None) for hour in range(25)]
    bands = _bands(prices)
    if bands is None:
        return None, warnings
    owner = next((p.id for p in snapshot.providers if any(model is m for m in p.models)), provider.id)
    source = f"genai-prices {__version__}: {owner}/{model.id}"
    if not _literal(query.model, model.id):
        warnings.append(f"priced as {owner}/{model.id}; set input_usd_per_mtok and output_usd_per_mtok if it is not")
    if provider.id == "azure":
        warnings.append(f"an Azure deployment's name is your own: it is priced as {owner}/{model.id}")
    unpriced = sorted({key for price in prices for key, _ in _stated(price)} - _KNOWN)
    if unpriced:
        warnings.append(f"not counted in its price: {', '.join(unpriced)}")
    if not bands[0].output and "embed" not in model.id.lower():
        warnings.append("the table has no price for its output, which is taken to cost nothing")
    fee = max((value for price in prices for value in _values(price, "requests_kcount")), default=Decimal(0))
    window = model.context_window
    return Rates(
        bands,
        request=-(-per_million(fee) // 1_000),  # dollars per thousand requests
        source=source,
        at=int(now.timestamp()),
        window=window if isinstance(window, int) and window > 0 else None,
    ), warnings


def _provider(providers: list[Any], query: Query) -> Any | None:
    """The provider that `base_url` belongs to; without one, that whose id is the configured name.

    Never a guess from the model's name: a local server may well call its model `gpt-4o`.
    """
    if not query.base_url:
        return next((each for each in providers if each.id == query.provider.lower()), None)
    for each in providers:
        match = re.match(each.api_pattern, query.base_url)
        if match and _whole_host(query.base_url, match.end()):
            return each
    return None


def _whole_host(url: str, end: int) -> bool:
    """Whether a pattern that matched up to `end` covers the host, and not only how it begins."""
    return end == len(url) or url[end - 1] in "/." or url[end] in "/:?"


def _context(tier: str) -> dict[str, str]:
    if not tier or tier in {"auto", "default", "standard"}:
        return {}
    return {"processing": "batch"} if tier == "batch" else {"service_tier": tier}


def _has_variant(provider: Any, model: Any, context: dict[str, str]) -> bool:
    """Whether the table has such prices of a model, and they are this provider's own."""
    own = any(model is each for each in provider.models)
    return own and any(
        all(context.get(key) == value for key, value in variant.when.items()) for variant in model.price_variants or ()
    )


def _literal(asked: str, found: str) -> bool:
    """Whether the names are the same, but for a release."""
    asked, found = asked.lower(), found.lower()
    shorter, longer = sorted((asked, found), key=len)
    return asked == found or (
        longer.startswith(shorter) and _RELEASE.fullmatch(longer.removeprefix(shorter)) is not None
    )


def _bands(prices: list[Any]) -> tuple[Band, ...] | None:
    """The dearest of several prices of one model (now and through the coming day), by length of the input.

    Prices can change by the hour, and a night's batch is paid for at the time of each call. None where one of
    them has no price for input.
    """
    if not all(any(True for _ in _values(price, "input_mtok")) for price in prices):
        return None
    starts = sorted({0, *(tier.start for price in prices for _, value in _stated(price) for tier in _tiers(value))})
    return tuple(_band(prices, start) for start in starts)


def _band(prices: list[Any], above: int) -> Band:
    def dearest(keys: tuple[str, ...], default: int) -> int:
        values = [per_million(value) for price in prices for key in keys for value in _values(price, key, above)]
        return max(values, default=default)

    plain = dearest(("input_mtok",), 0)
    written = dearest(("cache_write_mtok",), plain)
    return Band(
        input=plain,
        output=dearest(_OUTPUT, 0),
        cached=dearest(("cache_read_mtok",), plain),
        cache_write=written,
        cache_write_1h=dearest(("cache_write_1h_mtok",), written),
        media=max(plain, dearest(_MEDIA, plain)),
        above=above,
    )


def _stated(price: Any) -> Iterator[tuple[str, Any]]:
    for key, value in vars(price).items():
        if not key.startswith("_") and value is not None:
            yield key, value


def _tiers(value: Any) -> list[Any]:
    return list(getattr(value, "tiers", ()))


def _values(price: Any, key: str, above: int = 0) -> Iterator[Decimal]:
    """The price `key` of a call with more than `above` input tokens, if there is one."""
    value = vars(price).get(key)
    if value is None:
        return
    if isinstance(value, Decimal):
        yield value
        return
    found = value.base
    for tier in _tiers(value):
        if tier.start <= above:
            found = tier.price
    yield found


def main() -> int:
    """Answer the queries on stdin; exit status 3 where the table is not installed."""
    try:
        queries = [Query(**each) for each in json.load(sys.stdin)]
        json.dump(answer(queries, datetime.fromtimestamp(time.time(), UTC)), sys.stdout)
    except ImportError:
        print("genai-prices is not installed: pip install genai-prices", file=sys.stderr)  # noqa: T201  # a process
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
