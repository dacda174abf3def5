"""Publish tasks for stock.py: `publish.py FIRST COUNT`."""

import sys

from stock import app, call

first, count = int(sys.argv[1]), int(sys.argv[2])
with app.producer_pool.acquire(block=True) as producer:
    for number in range(first, first + count):
        message = {"role": "user", "content": f"Say something about the number {number}."}
        call.apply_async(({"model": "small", "messages": [message], "max_tokens": 50},), producer=producer)
