"""A batch in plain Celery, as one would write it first: a message a line, and the Redis result backend."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx
from celery import Celery

app = Celery("plain", broker=os.environ["PLAIN_REDIS"], backend=os.environ["PLAIN_REDIS"])
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1

client = httpx.Client(base_url=os.environ["PLAIN_PROVIDER"], limits=httpx.Limits(max_connections=200), timeout=60)


@app.task(name="plain.job", autoretry_for=(httpx.HTTPError,), retry_backoff=True)
def job(line: dict[str, Any]) -> Any:
    """One call; its answer is the task's result."""
    answer = client.post(line["url"], json=line["body"], headers={"Authorization": "Bearer sk-test"})
    answer.raise_for_status()
    return answer.json()


if __name__ == "__main__":
    with Path(sys.argv[1]).open() as source:
        for each in source:
            job.delay(json.loads(each))
