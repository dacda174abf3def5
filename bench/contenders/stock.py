"""Stock Celery as it is usually written: a task that posts a prompt with httpx, late acknowledgement, a result."""

import os

import httpx
from celery import Celery

URL = os.environ["BENCH_REDIS"]
PROVIDER = os.environ["BENCH_PROVIDER"]

app = Celery("stock", broker=URL, backend=URL)
app.conf.update(
    task_acks_late=True,
    task_default_queue="stock",
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)

# One client a process, as its documentation advises; its pool is as large as the worker's.
client = httpx.Client(timeout=120, limits=httpx.Limits(max_connections=None, max_keepalive_connections=1000))


@app.task
def call(body: dict[str, object]) -> str:
    answer = client.post(f"{PROVIDER}/v1/chat/completions", json=body, headers={"authorization": "Bearer sk-bench"})
    answer.raise_for_status()
    return answer.text
