"""The price table of `genai-prices`, asked in a process of its own: `python -m workers.models.price_table`.

Reads a JSON list of queries (`workers.models.price_lookup.Query`) and writes `{"rates": {name: …}, "warnings": […]}`.
Nothing else imports this module or that package, which takes half a second and some 50 MB.

The table finds models by patterns, so a name that it doesn't have can match a similar one. `Rates.source` therefore
contains the table's name, and a match that isn't literal brings a warning.
"""

import json
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from workers.models.price_lookup import Query
from workers.models.prices import Band, Rates, per_million
from workers.models.shared_prices import encode

#: What may follow a model's name without making it another model: its release, or `latest`.
_RELEASE = re.compile(r"(?:[-@:](?:\d{8}|\d{4}-\d{2}-\d{2}|\d{4}|latest|v\d+(?::\d+)?))+")

#: Prices of output tokens. The highest counts, since not every provider reports tokens by kind.
_OUTPUT = (
    "output_mtok",
    "output_reasoning_mtok",
    "output_audio_mtok",
    "output_image_mtok",
    "output_video_mtok",
)

#: Prices of media in the prompt; again the highest counts.
_MEDIA = ("input_audio_mtok", "input_image_mtok", "input_video_mtok")

#: Prices of the prompt cache.
_CACHE = ("cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")

#: Keys that are used here or need no warning: cached media are charged as media (`Rates.cost`), and a search is a fee
#: of a hosted tool, due only if a body asks for the tool.
_KNOWN = frozenset({"input_mtok", "requests_kcount", "cache_audio_read_mtok", "cache_image_read_mtok"})
_KNOWN |= {"web_searches_kcount", "storage_searches_kcount", *_OUTPUT, *_MEDIA, *_CACHE}


def answer(queries: list[Query], now: datetime) -> dict[str, Any]:
    """The answer to all queries, ready for JSON. Raises ImportError if the table is not installed."""
    rates: dict[str, Rates] = {}
    warnings: list[str] = []
    for query in queries:
        found, warned = find(query, now)
        warnings += [f"{query.name}: {each}" for each in warned]
        if found is not None:
            rates[query.name] = found
    return {"rates": encode(rates), "warnings": warnings}


def find(query: Query, now: datetime) -> tuple[Rates | None, list[str]]:
    """The rates of one model, None if the table has none, and warnings about them: those of its standard price."""
    from genai_prices import __version__, data_snapshot  # noqa: PLC0415  # heavy; only here

    snapshot = data_snapshot.get_snapshot()
    provider = _provider(snapshot.providers, query)
    model = provider and provider.find_model(query.model, all_providers=snapshot.providers)
    if provider is None or model is None:
        return None, []
    context = _context(query.tier)
    if context and not _has_variant(provider, model, context):
        return None, []
    prices = [model.get_prices(now + timedelta(hours=hour), context or None) for hour in range(25)]
    bands = _bands(prices)
    if bands is None:
        return None, []
    owner = next((p.id for p in snapshot.providers if any(model is m for m in p.models)), provider.id)
    name = f"{owner}/{model.id}"
    warnings = [] if context else list(_doubts(query, provider.id, name, prices, bands))
    window = model.context_window
    return Rates(
        bands,
        request=_fee(prices),
        source=f"genai-prices {__version__}: {name}",
        at=int(now.timestamp()),
        window=window if isinstance(window, int) and window > 0 else None,
    ), warnings


def _doubts(query: Query, provider: str, name: str, prices: list[Any], bands: tuple[Band, ...]) -> Iterator[str]:
    """What is uncertain about a match with the table's `name` (`provider/model`)."""
    model = name.partition("/")[2]
    if not _literal(query.model, model):
        yield f"priced as {name}; set input_usd_per_mtok and output_usd_per_mtok if it is not"
    if provider == "azure":
        yield f"an Azure deployment's name is your own: it is priced as {name}"
    unpriced = sorted({key for price in prices for key, _ in _stated(price)} - _KNOWN)
    if unpriced:
        yield f"not counted in its price: {', '.join(unpriced)}"
    if not bands[0].output and "embed" not in model.lower():
        yield "the table has no price for its output, which is taken to cost nothing"


def _fee(prices: list[Any]) -> int:
    """n$ a request; the table has dollars per thousand requests."""
    highest = max((value for price in prices for value in _values(price, "requests_kcount")), default=Decimal(0))
    return -(-per_million(highest) // 1_000)


def _provider(providers: list[Any], query: Query) -> Any | None:
    """The provider that `base_url` belongs to, or without one the provider whose id is the configured name.

    The model's name is never used to guess: a local server may well call its model `gpt-4o`.
    """
    if not query.base_url:
        return next((each for each in providers if each.id == query.provider.lower()), None)
    for each in providers:
        match = re.match(each.api_pattern, query.base_url)
        if match and _whole_host(query.base_url, match.end()):
            return each
    return None


def _whole_host(url: str, end: int) -> bool:
    """Whether a match up to `end` covers the whole host, not only its beginning."""
    return end == len(url) or url[end - 1] in "/." or url[end] in "/:?"


def _context(tier: str) -> dict[str, str]:
    if not tier or tier in {"auto", "default", "standard"}:
        return {}
    return {"processing": "batch"} if tier == "batch" else {"service_tier": tier}


def _has_variant(provider: Any, model: Any, context: dict[str, str]) -> bool:
    """Whether the table has such prices for the model from this provider itself."""
    own = any(model is each for each in provider.models)
    return own and any(
        all(context.get(key) == value for key, value in variant.when.items()) for variant in model.price_variants or ()
    )


def _literal(asked: str, found: str) -> bool:
    """Whether the names are equal except for a release."""
    asked, found = asked.lower(), found.lower()
    shorter, longer = sorted((asked, found), key=len)
    return asked == found or (
        longer.startswith(shorter) and _RELEASE.fullmatch(longer.removeprefix(shorter)) is not None
    )


def _bands(prices: list[Any]) -> tuple[Band, ...] | None:
    """The highest of several prices of one model (now and through the coming day), by length of the input.

    Prices can change by the hour, and each call is paid for at its time. None if one of them has no input price.
    """
    if not all(any(True for _ in _values(price, "input_mtok")) for price in prices):
        return None
    starts = sorted({0, *(tier.start for price in prices for _, value in _stated(price) for tier in _tiers(value))})
    return tuple(_band(prices, start) for start in starts)


def _band(prices: list[Any], above: int) -> Band:
    def highest(keys: tuple[str, ...], default: int) -> int:
        values = [per_million(value) for price in prices for key in keys for value in _values(price, key, above)]
        return max(values, default=default)

    plain = highest(("input_mtok",), 0)
    written = highest(("cache_write_mtok",), plain)
    return Band(
        input=plain,
        output=highest(_OUTPUT, 0),
        cached=highest(("cache_read_mtok",), plain),
        cache_write=written,
        cache_write_1h=highest(("cache_write_1h_mtok",), written),
        media=max(plain, highest(_MEDIA, plain)),
        above=above,
    )


def _stated(price: Any) -> Iterator[tuple[str, Any]]:
    for key, value in vars(price).items():
        if not key.startswith("_") and value is not None:
            yield key, value


def _tiers(value: Any) -> list[Any]:
    return list(getattr(value, "tiers", ()))


def _values(price: Any, key: str, above: int = 0) -> Iterator[Decimal]:
    """The price `key` of a call with more than `above` input tokens, if any."""
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
    """Answer the queries on stdin. Exit status 3 if the table is not installed."""
    try:
        queries = [Query(**each) for each in json.load(sys.stdin)]
        json.dump(answer(queries, datetime.fromtimestamp(time.time(), UTC)), sys.stdout)
    except ImportError:
        print("genai-prices is not installed: pip install genai-prices", file=sys.stderr)  # noqa: T201  # a process
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
