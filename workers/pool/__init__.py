"""Coroutines and threads under Celery.

last_resort.py  the end of a worker that was told to stop and cannot
threads.py      threads for what would block an event loop, kept apart by what they do, so that one kind never …
pool.py         the asyncio pool
execution.py    one task in the pool
loop.py         an event loop in a thread of its own, and threads beside it for tasks that are no coroutines
main_thread.py  from the pool's threads to Celery's hub
bridge.py       synchronous code on an event loop that can wait
coroutine.py    coroutines as Celery tasks, on every pool
gc_tuning.py    how often a worker looks for reference cycles
"""
