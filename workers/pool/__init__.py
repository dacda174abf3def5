"""The pool: coroutines and threads under Celery, from a task that Celery hands over to its end.

pool.py                 the asyncio pool
open_files.py           the process's limit of open files
gc_tuning.py            the garbage collector, rarely
execution.py            one task: its callbacks, limits and end
coroutine_execution.py  a task that is a coroutine, on the event loop
thread_execution.py     a task that is a synchronous function, in a thread
loop.py                 an event loop in a thread of its own
threads.py              threads for what would block the loop, by kind
bridge.py               lets synchronous code wait on the event loop
coroutine.py            coroutines as Celery tasks, on every pool
main_thread.py          calls from the pool's threads to the main thread
soft_shutdown.py        Celery's soft shutdown, which ends with the last task
last_resort.py          ends a worker that cannot stop
"""
