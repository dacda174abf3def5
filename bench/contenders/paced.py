"""Celery tasks that stay inside a provider's quota in the usual ways. PACED_BY: nothing, limits or throttled.

Each of them honours Retry-After: a 429 is tried again by `self.retry(countdown=…)`, until it succeeds. A limiter in
front is asked for the request and for its tokens, and asked again after the wait that it returns.
"""

import json
import os
import random
import sys
import time
from pathlib import Path

import httpx
from celery import Celery

URL = os.environ["BENCH_REDIS"]
PROVIDER = os.environ["BENCH_PROVIDER"]
RPM, TPM = int(os.environ["BENCH_RPM"]), int(os.environ["BENCH_TPM"])

app = Celery("paced", broker=URL, backend=URL)
app.conf.update(
    task_acks_late=True,
    task_default_queue="paced",
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)
client = httpx.Client(timeout=120, limits=httpx.Limits(max_connections=None, max_keepalive_connections=1000))


def unpaced(tokens: int) -> None:
    """Nothing but the provider's 429s slows it down."""
    del tokens


def by_limits():
    """`limits`, sliding window counter: its cheapest strategy that knows costs. It says when a window resets."""
    from limits import RateLimitItemPerMinute
    from limits.storage import RedisStorage
    from limits.strategies import SlidingWindowCounterRateLimiter

    limiter = SlidingWindowCounterRateLimiter(RedisStorage(URL))
    requests, of_tokens = RateLimitItemPerMinute(RPM), RateLimitItemPerMinute(TPM)

    def wait_for(item, name: str, cost: int) -> None:
        while not limiter.hit(item, name, cost=cost):
            left = limiter.get_window_stats(item, name).reset_time - time.time()
            time.sleep(min(max(left, 0.05), 1.0) * random.uniform(1.0, 1.5))

    def pace(tokens: int) -> None:
        wait_for(requests, "requests", 1)
        wait_for(of_tokens, "tokens", tokens)

    return pace


def by_throttled():
    """`throttled-py`, GCRA with a burst of one second: the algorithm that meets most ways of counting."""
    from throttled import RedisStore, Throttled, per_min

    store = RedisStore(server=URL)
    kinds = {"requests": per_min(RPM, burst=max(1, RPM // 60)), "tokens": per_min(TPM, burst=TPM // 60)}
    limiters = {name: Throttled(key=name, using="gcra", quota=quota, store=store) for name, quota in kinds.items()}

    def pace(tokens: int) -> None:
        for name, cost in (("requests", 1), ("tokens", tokens)):
            while (result := limiters[name].limit(name, cost=cost)).limited:
                time.sleep(max(result.state.retry_after, 0.01) * random.uniform(1.0, 1.2))

    return pace


PACES = {"nothing": lambda: unpaced, "limits": by_limits, "throttled": by_throttled}
pace = PACES[os.environ["PACED_BY"]]()


@app.task(bind=True, max_retries=None)
def call(self, body: dict) -> str:
    pace(max(body["max_tokens"], len(str(body)) // 4))
    answer = client.post(f"{PROVIDER}/v1/chat/completions", json=body, headers={"authorization": "Bearer sk-bench"})
    if answer.status_code == 429:
        raise self.retry(countdown=float(answer.headers.get("retry-after", 1)))
    answer.raise_for_status()
    return answer.text


if __name__ == "__main__":
    with Path(sys.argv[1]).open() as lines, app.producer_pool.acquire(block=True) as producer:
        for line in lines:
            call.apply_async((json.loads(line)["body"],), producer=producer)
