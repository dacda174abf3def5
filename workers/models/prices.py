"""What tokens cost, in integers: prices in nano-dollars (n$) per million tokens, sums in n$.

A dollar is 10⁹ n$, so $0.15 per million tokens is 150,000,000 n$ per million. Sums are exact until the last step, which
rounds up to a whole n$: a budget never gains by rounding.

A price comes from `input_usd_per_mtok` and `output_usd_per_mtok` of the configuration, else from the table of the
`genai-prices` package (price_lookup.py). Without either the call has no price, which is not the same as zero.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, Decimal
from itertools import pairwise
from typing import Final, Protocol

from limits.budget import NANO
from limits.counting import Estimate, Usage

#: Prices are per million tokens.
MILLION: Final = 10**6

#: The highest believable price, in n$ per million tokens: $1,000,000 per million.
LARGEST_PRICE: Final = 10**15


@dataclass(frozen=True, slots=True)
class Band:
    """The prices of a call whose input has more than `above` tokens, in n$ per million tokens of each kind.

    They apply to all of the call's tokens, as providers' long-context prices do. `media` is the highest input price of
    a prompt with images, audio or files.
    """

    input: int
    output: int
    cached: int
    cache_write: int
    cache_write_1h: int
    media: int
    above: int = 0

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached", "cache_write", "cache_write_1h", "media"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= LARGEST_PRICE:
                raise ValueError(f"{name} must be whole n$ per million tokens, 0 to {LARGEST_PRICE}: got {value!r}")
        if type(self.above) is not int or self.above < 0:
            raise ValueError(f"above must be a number of tokens: got {self.above!r}")


@dataclass(frozen=True, slots=True)
class Rates:
    """The prices of one model at one provider.

    `bands` begins with the prices of any call (`above` 0), followed by those of longer ones. `request` is n$ a request,
    on top of its tokens. `source` says where the prices come from, with the table's name for the model, and `at` when
    (seconds since the epoch). `window` is the model's context in tokens, None if unknown.
    """

    bands: tuple[Band, ...]
    request: int = 0
    source: str = ""
    at: int = 0
    window: int | None = None
    _highest: tuple[tuple[int, int, int], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        starts = [band.above for band in self.bands]
        if not starts or starts[0] != 0 or any(a >= b for a, b in pairwise(starts)):
            raise ValueError(f"bands must begin at 0 tokens and rise: they begin at {starts}")
        if type(self.request) is not int or not 0 <= self.request <= LARGEST_PRICE:
            raise ValueError(f"request must be whole n$, 0 to {LARGEST_PRICE}: got {self.request!r}")
        highest = tuple(
            (band.above, max(band.input, band.cached, band.cache_write, band.cache_write_1h), band.media)
            for band in self.bands
        )
        object.__setattr__(self, "_highest", highest)

    def cost(self, usage: Usage, *, media: bool = False, requests: int = 1) -> int:
        """The cost of a call with this usage in n$, rounded up.

        `media` says whether the prompt had media. Not every provider reports the prompt's tokens by kind, so if media
        cost more than text, the whole prompt is charged as media.
        """
        band = self._band(usage.input)
        hour = min(usage.cache_write_1h, usage.cache_write)
        plain = max(usage.input - usage.cached - usage.cache_write, 0)
        as_media = media and band.media > band.input
        total = (
            plain * (band.media if as_media else band.input)
            + usage.cached * (band.media if as_media else band.cached)
            + (usage.cache_write - hour) * band.cache_write
            + hour * band.cache_write_1h
            + usage.output * band.output
        )
        return max(-(-total // MILLION), 0) + self.request * requests

    def cache_saving(self, usage: Usage, *, media: bool = False) -> int:
        """What the prompt cache has saved on a call in n$; negative if writing to it cost more than reading saved."""
        plain = replace(usage, cached=0, cache_write=0, cache_write_1h=0)
        return self.cost(plain, media=media) - self.cost(usage, media=media)

    def ceiling(self, estimate: Estimate) -> int:
        """The most that a call within this estimate can cost, in n$: `cost` never returns more.

        Nothing is expected from the prompt cache. If writing to it costs more than reading the prompt, the whole prompt
        counts as written. Of several bands, the most expensive that the input can reach counts.
        """
        most = 0
        for band, (above, highest, media) in zip(self.bands, self._highest, strict=True):
            if above and above >= estimate.input_ceiling:
                break
            each = max(highest, media) if estimate.media else highest
            most = max(most, estimate.input_ceiling * each + estimate.output_ceiling * band.output)
        return -(-most // MILLION) + self.request * estimate.requests

    @property
    def highest(self) -> int:
        """The highest price of any token, in n$ per million."""
        return max(
            max(highest, media, band.output)
            for band, (_, highest, media) in zip(self.bands, self._highest, strict=True)
        )

    def scaled(self, share: float) -> "Rates":
        """The prices of a cheaper lane: a part of these, rounded up."""
        factor = Decimal(str(share))

        def part(price: int) -> int:
            return int((price * factor).to_integral_value(rounding=ROUND_CEILING))

        names = ("input", "output", "cached", "cache_write", "cache_write_1h", "media")
        bands = tuple(replace(band, **{name: part(getattr(band, name)) for name in names}) for band in self.bands)
        return replace(self, bands=bands, request=part(self.request))

    def _band(self, tokens: int) -> Band:
        found = self.bands[0]
        for band in self.bands[1:]:
            if tokens <= band.above:
                break
            found = band
        return found


def flat(
    input_usd: float | Decimal,
    output_usd: float | Decimal,
    *,
    cached_usd: float | Decimal | None = None,
    cache_write_usd: float | Decimal | None = None,
    source: str = "configuration",
) -> Rates:
    """Rates from prices in dollars per million tokens. The prompt cache costs the same as other input by default."""
    price = per_million(input_usd)
    cached = price if cached_usd is None else per_million(cached_usd)
    written = price if cache_write_usd is None else per_million(cache_write_usd)
    band = Band(price, per_million(output_usd), cached, written, written, price)
    return Rates((band,), source=source, at=int(time.time()))


def per_million(usd: float | Decimal) -> int:
    """Dollars per million tokens as n$ per million tokens, rounded up.

    Raises ValueError if it is negative, not a number, or above a million dollars.
    """
    # str() of a float has the digits that the configuration has: 0.15 and not 0.1499999….
    amount = Decimal(str(usd))
    if not amount.is_finite() or amount < 0 or amount * NANO > LARGEST_PRICE:
        raise ValueError(f"a price must be 0 to 1,000,000 dollars per million tokens: got {usd}")
    return int((amount * NANO).to_integral_value(rounding=ROUND_CEILING))


class Priced(Protocol):
    """The price keys of a model in the configuration, in dollars per million tokens."""

    @property
    def input_usd_per_mtok(self) -> Decimal | float | None: ...

    @property
    def output_usd_per_mtok(self) -> Decimal | float | None: ...

    @property
    def cached_usd_per_mtok(self) -> Decimal | float | None: ...

    @property
    def cache_write_usd_per_mtok(self) -> Decimal | float | None: ...


def configured(settings: Priced) -> Rates | None:
    """A model's rates from the configuration, None unless it has both prices."""
    if settings.input_usd_per_mtok is None or settings.output_usd_per_mtok is None:
        return None
    return flat(
        settings.input_usd_per_mtok,
        settings.output_usd_per_mtok,
        cached_usd=settings.cached_usd_per_mtok,
        cache_write_usd=settings.cache_write_usd_per_mtok,
    )


def resolve(settings: Priced | None, shared: Mapping[str, Rates], name: str) -> Rates | None:
    """The rates of the model called `name` (`provider/model`), None if its price is unknown.

    Two prices in the configuration win over the shared ones. A single one is completed from them, and is no price if
    they don't have the model. A model costs nothing only if the configuration says so, with zeros.
    """
    known = shared.get(name)
    if settings is None:
        return known
    if (own := configured(settings)) is not None:
        return own
    source = f"configuration and {known.source}" if known else ""
    # The missing price covers all input or all output, so take the highest.
    if known and settings.input_usd_per_mtok is not None:
        made = max(band.output for band in known.bands)
        return flat(settings.input_usd_per_mtok, Decimal(made) / NANO, source=source)
    if known and settings.output_usd_per_mtok is not None:
        taken = max(max(b.input, b.cache_write, b.cache_write_1h, b.media) for b in known.bands)
        return flat(Decimal(taken) / NANO, settings.output_usd_per_mtok, source=source)
    return known
