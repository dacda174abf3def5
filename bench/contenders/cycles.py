"""One process that asks a limiter again and again: `cycles.py {limits|throttled|pyrate} REDIS SECONDS`.

A cycle is one call's request and its tokens, which are two questions: none of the three asks both at once, and none
settles. Prints the cycles done. The quota is so large that nothing is ever refused.
"""

import sys
import time
from collections.abc import Callable

LARGE = 10**9


def by_limits(url: str) -> Callable[[], object]:
    from limits import RateLimitItemPerMinute
    from limits.storage import RedisStorage
    from limits.strategies import SlidingWindowCounterRateLimiter

    limiter, item = SlidingWindowCounterRateLimiter(RedisStorage(url)), RateLimitItemPerMinute(LARGE)
    return lambda: (limiter.hit(item, "requests"), limiter.hit(item, "tokens", cost=400))


def by_throttled(url: str) -> Callable[[], object]:
    from throttled import RedisStore, Throttled, per_min

    store = RedisStore(server=url)
    kinds = [Throttled(key=key, using="gcra", quota=per_min(LARGE), store=store) for key in ("requests", "tokens")]
    return lambda: (kinds[0].limit("requests"), kinds[1].limit("tokens", cost=400))


def by_pyrate(url: str) -> Callable[[], object]:
    from pyrate_limiter import Duration, Limiter, Rate, RedisBucket
    from redis import Redis

    def limiter(key: str) -> Limiter:
        return Limiter(RedisBucket.init([Rate(LARGE, Duration.SECOND)], Redis.from_url(url), key))

    requests, tokens = limiter("requests"), limiter("tokens")
    # Its log has an entry a unit, so tokens are counted in thousands.
    return lambda: (requests.try_acquire("requests"), tokens.try_acquire("tokens", weight=1))


def main() -> None:
    kind, url, seconds = sys.argv[1:]
    cycle = {"limits": by_limits, "throttled": by_throttled, "pyrate": by_pyrate}[kind](url)
    for _ in range(50):
        cycle()
    print("ready", flush=True)
    sys.stdin.readline()
    ends, count = time.monotonic() + float(seconds), 0
    while time.monotonic() < ends:
        cycle()
        count += 1
    print(count, flush=True)


if __name__ == "__main__":
    main()
