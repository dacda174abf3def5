"""Learns from answers how models count tokens and how long their answers are; shared by all workers.

A model's count of a prompt differs from ours, as tokenizers and chat templates do. Its answers have a typical length.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from limits.counting import Estimate, Usage

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger(__name__)

#: The largest correction, up or down. Texts stay within a factor of 4 (a byte a token); images reach 1/12 (low detail)
#: and 48 (gpt-4o-mini).
MAX_CORRECTION: Final = 48

#: Tokens that count as correctly counted from the start, so that one short prompt doesn't decide.
PRIOR: Final = 2_000

#: Answers after which a model's sums are halved.
HALVED_AFTER: Final = 1_000

#: The sums of a model, as the hash names them.
_FIELDS: Final = ("counted", "real", "answers", "output")


@dataclass(slots=True)
class Ratio:
    """Sums over a model's calls: tokens counted here, tokens that the provider counted, answers, tokens generated.

    Sums, so that any number of workers can add to them. They are halved now and then, so that old calls lose weight.
    """

    counted: int = 0
    real: int = 0
    answers: int = 0
    output: int = 0

    @property
    def correction(self) -> float:
        """The factor for our count: 1.0 at first, and always between 1/MAX_CORRECTION and MAX_CORRECTION."""
        ratio = (self.real + PRIOR) / (self.counted + PRIOR)
        return min(max(ratio, 1 / MAX_CORRECTION), MAX_CORRECTION)

    @property
    def forecast(self) -> int | None:
        """Generated tokens per call on average, rounded up; None before the first answer."""
        return -(-self.output // self.answers) if self.answers > 0 else None

    def observe(self, estimate: Estimate, usage: Usage) -> None:
        """Add one finished call. Ignores an empty usage, which some providers report."""
        if usage.input <= 0 and usage.output <= 0:
            return
        self.answers += 1
        # A provider's figure is untrusted input, so its effect on the sums is bounded.
        self.output += min(max(usage.output, 0), max(estimate.output_ceiling, 1))
        if estimate.counted > 0 and usage.input > 0:
            self.counted += estimate.counted
            self.real += min(usage.input, 2 * MAX_CORRECTION * estimate.counted)

    def plus(self, other: "Ratio") -> "Ratio":
        return Ratio(
            self.counted + other.counted,
            self.real + other.real,
            self.answers + other.answers,
            self.output + other.output,
        )


#: A model without any answers yet. Never modified.
UNKNOWN: Final = Ratio()


class Ratios:
    """Every model's `Ratio`, shared with the other workers through one Redis hash.

    Reading and observing happen in memory. A background task calls `sync` every few seconds, one round trip for all
    models. The hash has four integer fields a model, `<model>:<sum>`. Prompts with images or files are counted much
    more roughly, so they have sums of their own.
    """

    #: Seconds that the hash is kept after the last `sync`.
    LIFETIME = 30 * 86_400

    def __init__(self, key: str) -> None:
        self._key = key
        self._shared: dict[str, Ratio] = {}
        self._pending: dict[str, Ratio] = {}

    def of(self, model: str, *, media: bool = False) -> Ratio:
        """The sums of `model`, including this process's calls that are not shared yet."""
        model = _named(model, media=media)
        shared, pending = self._shared.get(model), self._pending.get(model)
        if shared is None or pending is None:
            return shared or pending or UNKNOWN
        return shared.plus(pending)

    def observe(self, model: str, estimate: Estimate, usage: Usage) -> None:
        """Add a finished call."""
        self._pending.setdefault(_named(model, media=estimate.media), Ratio()).observe(estimate, usage)

    def load(self, fields: Mapping[Any, Any]) -> None:
        """Take over the hash's fields from HGETALL. Unknown fields are ignored."""
        shared: dict[str, Ratio] = {}
        for raw, value in fields.items():
            name = raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)
            model, _, field = name.rpartition(":")
            if model and field in _FIELDS:
                try:
                    setattr(shared.setdefault(model, Ratio()), field, max(0, int(value)))
                except ValueError:
                    log.warning("ignoring field %r of the token ratios: not a whole number", raw)
        self._shared = shared

    async def sync(self, client: "Redis") -> None:
        """Add this process's new sums to the hash, and read everyone's.

        The client's errors are raised, and the new sums stay pending. If a connection broke after Redis had added them,
        they count twice, which an average survives.
        """
        sent, self._pending = self._pending, {}
        try:
            pipeline = client.pipeline(transaction=False)
            for model, ratio in sent.items():
                for field in _FIELDS:
                    pipeline.hincrby(self._key, f"{model}:{field}", getattr(ratio, field))
            pipeline.expire(self._key, self.LIFETIME)
            pipeline.hgetall(self._key)
            replies = await pipeline.execute()
        except BaseException:
            for model, ratio in sent.items():
                self._pending[model] = self._pending.get(model, UNKNOWN).plus(ratio)
            raise
        self.load(replies[-1])
        await self._forget(client, sent, replies)

    async def _forget(self, client: "Redis", sent: dict[str, Ratio], replies: list[Any]) -> None:
        """Halve the sums of each model whose answers crossed a multiple of HALVED_AFTER with our addition.

        The server adds one process's answers after another's, so only one process sees each crossing.
        """
        pipeline = client.pipeline(transaction=False)
        for position, (model, mine) in enumerate(sent.items()):
            sums = replies[position * len(_FIELDS) : (position + 1) * len(_FIELDS)]
            total = Ratio(*map(int, sums))
            if total.answers // HALVED_AFTER == (total.answers - mine.answers) // HALVED_AFTER:
                continue
            for field, value in zip(_FIELDS, sums, strict=True):
                pipeline.hincrby(self._key, f"{model}:{field}", -(int(value) // 2))
        if len(pipeline):
            await pipeline.execute()


def _named(model: str, *, media: bool) -> str:
    return f"{model}+media" if media else model
