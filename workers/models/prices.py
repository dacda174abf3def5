"""What tokens cost, in integers: prices in nano-dollars a million tokens, sums in nano-dollars (n$).

A dollar is 10⁹ n$; $0.15 per million tokens is 150,000,000 n$ per million. Sums are exact until the last
step, which rounds up to a whole n$: a budget never gains by rounding.

Where a price comes from, in this order: `input_usd_per_mtok` and `output_usd_per_mtok` of the configuration;
the table of the `genai-prices` package; nowhere, and then the call has no price, which is not zero. The table
takes half a second and some 50 MB to load, so no worker imports it: `lookup` asks a short-lived process
(`python -m workers.models.price_table`), and `publish` shares the answer with all workers through Redis.
"""

import json
import logging
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from decimal import ROUND_CEILING, Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol

from limits.budget import NANO
from limits.counting import Estimate, Usage
from workers import child_process

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger(__name__)

MILLION: Final = 10**6
#: Seconds that shared prices are kept. Each submit looks them up again.
LIFETIME: Final = 30 * 86_400
#: n$ per million tokens that no model costs ($1,000,000 per million); a larger price is a mistake.
LARGEST_PRICE: Final = 10**15


@dataclass(frozen=True, slots=True)
class Band:
    """Prices of a call whose input has more than `above` tokens, in n$ per million tokens of each kind.

    They apply to all of its tokens, those below `above` included: so do the providers' long-context prices.
    `media` is the dearest input of a prompt that holds images, audio or files.
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

    `bands` begins with the prices of any call (`above` 0) and goes on with those of long ones, by size.
    `request` is n$ a request, beside its tokens. `source` tells where they come from, with the table's own
    name of the model, and `at` when (seconds since the epoch). `window` is the model's context in tokens,
    None where it is not known.
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
        dearest = tuple(
            (band.above, max(band.input, band.cached, band.cache_write, band.cache_write_1h), band.media)
            for band in self.bands
        )
        object.__setattr__(self, "_highest", dearest)

    def cost(self, usage: Usage, *, media: bool = False, requests: int = 1) -> int:
        """What a call with this usage costs, in n$, rounded up to a whole one.

        `media` is the estimate's: not every report of usage parts the prompt's tokens by kind, so where media
        are dearer than text, all of the prompt is charged as media.
        """
        band = self._band(usage.input)
        hour = min(usage.cache_write_1h, usage.cache_write)
        plain = max(usage.input - usage.cached - usage.cache_write, 0)
        dearer = media and band.media > band.input
        total = (
            plain * (band.media if dearer else band.input)
            + usage.cached * (band.media if dearer else band.cached)
            + (usage.cache_write - hour) * band.cache_write
            + hour * band.cache_write_1h
            + usage.output * band.output
        )
        return max(-(-total // MILLION), 0) + self.request * requests

    def ceiling(self, estimate: Estimate) -> int:
        """What a call within this estimate can cost at most, in n$: `cost` of no such usage is more.

        Nothing is expected from the prompt cache; where writing to it is dearer than reading the prompt, the
        whole prompt may be written. Of several bands the dearest that the input can reach counts.
        """
        most = 0
        for band, (above, dearest, media) in zip(self.bands, self._highest, strict=True):
            if above and above >= estimate.input_ceiling:
                break
            each = max(dearest, media) if estimate.media else dearest
            most = max(most, estimate.input_ceiling * each + estimate.output_ceiling * band.output)
        return -(-most // MILLION) + self.request * estimate.requests

    @property
    def highest(self) -> int:
        """The most that any token of a call can cost, in n$ per million."""
        return max(
            max(dearest, media, band.output)
            for band, (_, dearest, media) in zip(self.bands, self._highest, strict=True)
        )

    def _band(self, tokens: int) -> Band:
        found = self.bands[0]
        for band in self.bands[1:]:
            if tokens <= band.above:
                break
            found = band
        return found


def flat(input_usd: float | Decimal, output_usd: float | Decimal, *, source: str = "configuration") -> Rates:
    """Rates of two prices in dollars per million tokens. The prompt cache brings no discount and no fee."""
    price = per_million(input_usd)
    band = Band(price, per_million(output_usd), price, price, price, price)
    return Rates((band,), source=source, at=int(time.time()))


def per_million(usd: float | Decimal) -> int:
    """Dollars per million tokens as n$ per million tokens; a part of one is rounded up.

    ValueError for what is no price: negative, not a number, or beyond a million dollars.
    """
    # str() of a float has the digits that were written in the configuration: 0.15 and not 0.1499999….
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


def configured(settings: Priced) -> Rates | None:
    """The configuration's own rates of a model: None unless it has both prices."""
    if settings.input_usd_per_mtok is None or settings.output_usd_per_mtok is None:
        return None
    return flat(settings.input_usd_per_mtok, settings.output_usd_per_mtok)


def resolve(settings: Priced | None, shared: Mapping[str, Rates], name: str) -> Rates | None:
    """The rates of the model called `name` (`provider/model`), or None where nobody has told its price.

    Both prices of the configuration win over the shared ones. One alone is completed from them; where they do
    not know the model either, there is no price. A model costs nothing only where it is told so, with zeros.
    """
    known = shared.get(name)
    if settings is None:
        return known
    if (own := configured(settings)) is not None:
        return own
    source = f"configuration and {known.source}" if known else ""
    # The price that is missing is one for all input or all output, so the dearest that it can have.
    if known and settings.input_usd_per_mtok is not None:
        made = max(band.output for band in known.bands)
        return flat(settings.input_usd_per_mtok, Decimal(made) / NANO, source=source)
    if known and settings.output_usd_per_mtok is not None:
        taken = max(max(b.input, b.cache_write, b.cache_write_1h, b.media) for b in known.bands)
        return flat(Decimal(taken) / NANO, settings.output_usd_per_mtok, source=source)
    return known


# ---- the table, in a process of its own -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Query:
    """A model to be looked up: the configuration's names, and the provider's `base_url`, which decides.

    Without a `base_url` the provider's name must be the table's own. `tier` asks for other than the standard
    prices: `batch`, or a `service_tier` such as `flex` or `priority`.
    """

    provider: str
    model: str
    base_url: str = ""
    tier: str = ""

    @property
    def name(self) -> str:
        """The key under which the rates are shared."""
        return f"{self.provider}/{self.model}" + (f"#{self.tier}" if self.tier else "")


def lookup(queries: Iterable[Query], *, timeout: float = 60.0) -> dict[str, Rates]:
    """Rates by `Query.name` from the price table; a model that it does not know is absent.

    Runs a process and waits for it, a second or so: for the command line, never for an event loop. What the
    table was unsure of is logged as a warning. OSError, TimeoutExpired or ValueError where the process
    fails, which says nothing about any price.
    """
    asked = list(queries)
    if not asked:
        return {}
    done = subprocess.run(
        child_process.command("workers.models.price_table"),
        input=json.dumps([asdict(query) for query in asked]),
        capture_output=True,
        check=False,
        text=True,
        timeout=timeout,
        env=child_process.environment(),
    )
    if done.returncode:
        told = done.stderr.strip().rpartition("\n")[2][:300]
        raise ValueError(f"the price table could not be read (exit status {done.returncode}): {told}")
    answer = json.loads(done.stdout)
    for warning in answer["warnings"]:
        log.warning("prices: %s", warning)
    return decode(answer["rates"])


# ---- shared through Redis ---------------------------------------------------------------------------------


def encode(rates: Mapping[str, Rates]) -> dict[str, str]:
    """Rates as the fields of a hash: the model's name and compact JSON."""
    return {name: json.dumps(_plain(each), separators=(",", ":")) for name, each in rates.items()}


def decode(fields: Mapping[Any, Any]) -> dict[str, Rates]:
    """The rates of such fields. A field that holds none is logged and left out: its model has no price."""
    found: dict[str, Rates] = {}
    for raw, value in fields.items():
        name = raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)
        try:
            told = json.loads(value)
            bands = tuple(Band(**band) for band in told.pop("bands"))
            found[name] = Rates(bands, **told)
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            log.warning("the shared price of %s is unreadable and not used: %s", name, exc)
    return found


async def publish(client: "Redis", key: str, rates: Mapping[str, Rates]) -> None:
    """Share rates with all workers in the hash `key`; each replaces what was known of its model."""
    if rates:
        async with client.pipeline(transaction=True) as pipeline:
            for name, told in encode(rates).items():
                pipeline.hset(key, name, told)
            pipeline.expire(key, LIFETIME)
            await pipeline.execute()


async def fetch(client: "Redis", key: str) -> dict[str, Rates]:
    """All rates that were shared under `key`, for `resolve`."""
    return decode(await client.hgetall(key))


def _plain(rates: Rates) -> dict[str, Any]:
    return {
        "bands": [asdict(band) for band in rates.bands],
        "request": rates.request,
        "source": rates.source,
        "at": rates.at,
        "window": rates.window,
    }
