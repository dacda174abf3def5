"""What a model costs by another way than at the standard price: by the Batch API, or in a service tier.

A part of the live price in the configuration (`batch_price`, `flex_price`) wins over the price table's own price of the
way. A model whose standard price is configured is in no table: its Batch API costs `SHARE` of that, and a service tier
costs it in full. A model has a flex tier if it has a price for it: a provider refuses the tier for other models.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Protocol

from workers.models.prices import Rates

#: The names of the Batch API and of the flex tier, in prices and routes.
BATCH: Final = "batch"
FLEX: Final = "flex"

#: What the price table is asked about beside the standard price.
ASKED: Final = (BATCH, FLEX, "priority", "fast")

#: Those that cost the standard price at most.
CHEAPER: Final = frozenset({BATCH, FLEX})

#: The Batch API's price as a part of the live price, if neither the configuration nor the table has one.
SHARE: Final = 0.5


class Shares(Protocol):
    """A model's configured prices of cheaper ways, as parts of its live price."""

    @property
    def input_usd_per_mtok(self) -> object: ...

    @property
    def output_usd_per_mtok(self) -> object: ...

    @property
    def batch_price(self) -> float | None: ...

    @property
    def flex_price(self) -> float | None: ...


def tiers(
    settings: Shares, shared: Mapping[str, Rates], target: str, rates: Rates | None, api: str
) -> dict[str, Rates]:
    """The prices of `target` (`provider/model`) by the name of the way; `rates` is the standard price.

    `api`: the kind of its Batch API, '' if it has none.
    """
    own = settings.input_usd_per_mtok is not None or settings.output_usd_per_mtok is not None
    found = {} if own else {tier: shared[name] for tier in ASKED if (name := shared_name(target, tier)) in shared}
    if rates is None:
        return found
    if settings.batch_price is not None or BATCH not in found:
        found[BATCH] = _of_batch(rates, SHARE if settings.batch_price is None else settings.batch_price, api)
    if settings.flex_price is not None:
        found[FLEX] = rates.scaled(settings.flex_price)
    return found


def apart(name: str) -> str:
    """The name of what a model's flex tier has apart from its other calls: a bucket that pauses, or a circuit."""
    return f"{FLEX}:{name}"


def shared_name(target: str, tier: str) -> str:
    """The name under which a tier's prices are shared."""
    return f"{target}#{tier}"


def _of_batch(rates: Rates, share: float, api: str) -> Rates:
    """The Batch API's prices: a part of the live ones.

    Cached tokens cost the same as other input at Groq (https://console.groq.com/docs/batch), and what they cost live at
    Gemini (https://ai.google.dev/gemini-api/docs/batch-api).
    """
    scaled = rates.scaled(share)
    pairs = list(zip(scaled.bands, rates.bands, strict=True))
    if api == "groq":
        return replace(scaled, bands=tuple(replace(band, cached=band.input) for band, _ in pairs))
    if api == "gemini":
        return replace(scaled, bands=tuple(replace(band, cached=live.cached) for band, live in pairs))
    return scaled
