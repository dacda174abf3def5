"""What models really count, learnt from their answers and shared by all workers.

Two things are learnt of each model: by how much its own count of a prompt differs from ours (tokenizers
differ, and so do chat templates), and how long its answers are.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from limits.counting import Estimate, Usage

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger(__name__)

#: Bounds and weight of `Ratio.correction`, and the answers after which a model's sums are halved: our choice.
#: Texts stay within a factor of 4 (a byte a token); images reach 1/12 (low detail) and 48 (gpt-4o-mini).
MOST: Final = 48
PRIOR: Final = 2_000
HALVED_AFTER: Final = 1_000
_FIELDS: Final = ("counted", "real", "answers", "output")


@dataclass(slots=True)
class Ratio:
    """What a model's calls had: tokens as counted here, as the provider counted them, and generated.

    Sums, so that any number of workers can add to them without losing each other's; halved now and then, so
    that old calls weigh less and less.
    """

    counted: int = 0
    real: int = 0
    answers: int = 0
    output: int = 0

    @property
    def correction(self) -> float:
        """What to multiply a count by: 1.0 at first, within 1/MOST and MOST always."""
        # Starts as if PRIOR tokens had been counted right, so that one short prompt does not decide.
        ratio = (self.real + PRIOR) / (self.counted + PRIOR)
        return min(max(ratio, 1 / MOST), MOST)

    @property
    def forecast(self) -> int | None:
        """The average of generated tokens a call, rounded up; None before the first answer."""
        return -(-self.output // self.answers) if self.answers > 0 else None

    def observe(self, estimate: Estimate, usage: Usage) -> None:
        """Add one finished call. A usage of nothing (a provider that reports none) teaches nothing."""
        if usage.input <= 0 and usage.output <= 0:
            return
        self.answers += 1
        # A provider's number is hostile like any other input: it moves the sums no further than this.
        self.output += min(max(usage.output, 0), max(estimate.output_ceiling, 1))
        if estimate.counted > 0 and usage.input > 0:
            self.counted += estimate.counted
            self.real += min(usage.input, 2 * MOST * estimate.counted)

    def plus(self, other: "Ratio") -> "Ratio":
        """The sums of both."""
        return Ratio(
            self.counted + other.counted,
            self.real + other.real,
            self.answers + other.answers,
            self.output + other.output,
        )


#: A model of which nothing is known yet. Never changed.
UNKNOWN: Final = Ratio()


class Ratios:
    """A process's view of every model's `Ratio`, shared with the other workers through one Redis hash.

    Reading and observing are in memory. A background task calls `sync` every few seconds: one round trip for
    all models, and none of a job's own. The hash has four fields a model, `<model>:<sum>`, all integers.
    Prompts with images or files are counted so much more roughly that they have sums of their own.
    """

    #: Seconds after which the hash is dropped when nobody learns anything any more.
    LIFETIME = 30 * 86_400

    def __init__(self, key: str) -> None:
        self._key = key
        self._shared: dict[str, Ratio] = {}
        self._pending: dict[str, Ratio] = {}

    def of(self, model: str, *, media: bool = False) -> Ratio:
        """What is known of `model`, the calls of this process that are not shared yet included."""
        model = _named(model, media=media)
        shared, pending = self._shared.get(model), self._pending.get(model)
        if shared is None or pending is None:
            return shared or pending or UNKNOWN
        return shared.plus(pending)

    def observe(self, model: str, estimate: Estimate, usage: Usage) -> None:
        """Learn from a finished call."""
        self._pending.setdefault(_named(model, media=estimate.media), Ratio()).observe(estimate, usage)

    def load(self, fields: Mapping[Any, Any]) -> None:
        """Take over the hash's fields, as HGETALL gives them; what is no sum of ours is passed over."""
        shared: dict[str, Ratio] = {}
        for raw, value in fields.items():
            name = raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)
            model, _, field = name.rpartition(":")
            if model and field in _FIELDS:
                try:
                    setattr(shared.setdefault(model, Ratio()), field, max(0, int(value)))
                except ValueError:
                    log.warning("field %r of the token ratios is no whole number and is ignored", raw)
        self._shared = shared

    async def sync(self, client: "Redis") -> None:
        """Add what was learnt since the last call to the hash, and take the others' part of it.

        Errors of the client are the caller's; what was learnt stays pending then, and what a broken
        connection had already carried over counts twice, which an average survives.
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
        """Halve the sums of each model whose answers crossed a multiple of HALVED_AFTER by our own addition.

        The server adds one process's answers after another's, so only one of them sees a crossing.
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
