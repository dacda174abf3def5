"""The set of ticks in Redis: takes due ticks, and sets when they are due again."""

from typing import TYPE_CHECKING, Any, Final

from limits.client.connection import Server
from limits.client.scripts import Call, load
from limits.encoding import SECOND
from limits.keys import Keys
from tasks.batches.batch import Batch

if TYPE_CHECKING:
    import redis


#: Seconds since it last asked for ticks after which a worker counts as stopped.
_WORKER_TIMEOUT = 10.0

#: Seconds by which a tick must be overdue to show that no worker runs.
_OVERDUE = 5.0

#: µs between two turns of an idle tick for each tick in the set: so 100 idle ticks run in a second, however many exist.
_IDLE_EACH: Final = 10_000


class DueTicks:
    """Takes due ticks, and says when they are due again. A tick is named `feed:<batch>`, `collect:<batch>`, or of the
    batch lane `offload:<batch>`. `of_lane`: this is the set of the latter, which may take long.
    """

    def __init__(self, keys: Keys, server: Server, *, of_lane: bool = False) -> None:
        self.keys = keys
        self.server = server
        names = (keys.ticks, keys.ticks_duty, keys.ticks_idle, keys.tickers)
        self.due, self.duty, self.idling, self.tickers = map(keys.of_lane, names) if of_lane else names
        self.client: redis.Redis = server.client

    def take(self, lease: float, count: int, worker: str, duty: float) -> tuple[bool, list[str]]:
        """Take up to `count` due ticks; each belongs to `worker` for `lease` seconds.

        Returns also whether the worker is on duty for the next `duty` seconds: then it must ask again within them.
        """

        def read(reply: list[Any]) -> tuple[bool, list[str]]:
            return bool(reply[0]), [tick.decode() for tick in reply[1]]

        keys = (self.due, self.duty, self.idling, self.tickers)
        args = (int(lease * SECOND), count, "", worker, int(duty * 1000))
        return self.server.repeat(Call(load("tasks/batches/lua/ticks.lua"), keys, args, read))

    def again(self, tick: str, seconds: float | None) -> None:
        """Make a tick due again in `seconds`; None removes it."""
        if seconds is None:
            self.client.zrem(self.due, tick)
            return
        self._rest(tick, seconds, idle=0, seen=0, latest=seconds)

    def idle(self, tick: str, seconds: float, batch: Batch, latest: float) -> None:
        """Make a tick due when a job of its batch ends, but in `seconds` at the earliest and in `latest` at the latest.

        `batch` is the batch as the tick saw it.
        """
        self._rest(tick, seconds, idle=1, seen=batch.done, latest=latest)

    def _rest(self, tick: str, seconds: float, *, idle: int, seen: int, latest: float) -> None:
        kind, _, batch = tick.partition(":")
        keys = [self.due, self.idling, self.keys.batch(batch)]
        if kind == "collect":
            keys.append(self.keys.results(batch))
        args = (tick, int(seconds * SECOND), idle, seen, int(latest * SECOND), _IDLE_EACH, "")
        self.server.run(Call(load("tasks/batches/lua/rest.lua"), tuple(keys), args, int))

    def wake(self, tick: str) -> None:
        """Make an idle tick due now."""
        self.server.run(Call(load("tasks/batches/lua/wake.lua"), (self.due, self.idling), (tick,), int))

    def ensure(self, tick: str, seconds: float) -> None:
        """Make a tick due now unless it is in the set. The set lives for `seconds` more at least."""
        now, micros = self.client.time()
        pipeline: Any = self.client.pipeline(transaction=False)
        pipeline.zadd(self.due, {tick: now * SECOND + micros}, nx=True)
        pipeline.expire(self.due, int(seconds), nx=True)
        pipeline.expire(self.due, int(seconds), gt=True)
        pipeline.execute()

    def seen(self, worker: str) -> None:
        """Note that a worker is alive, although a long tick keeps it from asking for others."""
        seconds, micros = self.client.time()
        self.client.zadd(self.tickers, {worker: seconds * SECOND + micros}, xx=True)

    def workers(self) -> int | None:
        """The number of workers that run ticks; None if none has asked lately, but no tick is overdue either."""
        pipeline: Any = self.client.pipeline(transaction=False)
        pipeline.time()
        pipeline.zrange(self.tickers, 0, -1, withscores=True)
        pipeline.zrange(self.due, 0, 0, withscores=True)
        (seconds, micros), tickers, first = pipeline.execute()
        now = seconds * SECOND + micros
        running = len([worker for worker, at in tickers if now - at < _WORKER_TIMEOUT * SECOND])
        if not running and not any(now - due > _OVERDUE * SECOND for _, due in first):
            return None
        return running
