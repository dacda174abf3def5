"""What `celery control` and Flower's buttons may do to a worker: only what they need.

Anyone on the broker can send these commands. So none of them imports a module, sets a time limit that no call can meet,
or takes an argument of a wrong type. `remote_control = false` in overnight.toml disables all of them.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from celery.worker import control
from celery.worker.control import Panel, nok, ok

from workers.config.current import current_settings

#: Celery's commands that nothing here needs: they write files, use up memory, or handle stamps and elections.
DROPPED: Final = ("election", "memdump", "memsample", "objgraph", "revoke_by_stamped_headers")

#: Slots that one command may add or remove.
MAX_SLOTS: Final = 10_000

#: Tasks that one command may revoke.
MAX_IDS: Final = 10_000

#: The prefix of the names of Overnight's own tasks.
OWN: Final = "overnight."

#: Names of queues, exchanges and tasks, and ids of tasks.
_NAME = re.compile(r"[\w.:@/+-]{1,255}")

_celery: Final[Mapping[str, Any]] = dict(Panel.data)


def _are_names(*values: Any) -> bool:
    return all(isinstance(value, str) and _NAME.fullmatch(value) for value in values)


@control.control_command()  # type: ignore[untyped-decorator]  # Celery has no types
def pool_restart(state: Any, **options: Any) -> Any:
    """Restart the pool, without importing or reloading the modules that the message names."""
    del options
    state.consumer.controller.reload([], reload=False)
    return ok("reload started")


@control.control_command(args=[("n", int)], signature="[N=1]")  # type: ignore[untyped-decorator]  # as above
def pool_grow(state: Any, n: Any = 1, **options: Any) -> Any:
    """Add slots to the pool."""
    return _celery["pool_grow"](state, n, **options) if _is_slots(n) else _no_slots()


@control.control_command(args=[("n", int)], signature="[N=1]")  # type: ignore[untyped-decorator]  # as above
def pool_shrink(state: Any, n: Any = 1, **options: Any) -> Any:
    """Remove slots from the pool."""
    return _celery["pool_shrink"](state, n, **options) if _is_slots(n) else _no_slots()


def _is_slots(n: Any) -> bool:
    return type(n) is int and 1 <= n <= MAX_SLOTS


def _no_slots() -> Any:
    return nok(f"n must be a whole number from 1 to {MAX_SLOTS:,}")


@control.control_command(  # type: ignore[untyped-decorator]  # as above
    args=[("task_name", str), ("rate_limit", str)], signature="<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>"
)
def rate_limit(state: Any, task_name: Any, rate_limit: Any, **options: Any) -> Any:
    """Limit how often a task of an agent's module runs. overnight.toml limits calls."""
    if not _are_names(task_name):
        return nok("task_name must be a task's name")
    if task_name.startswith(OWN) and rate_limit not in (None, "", 0, "0"):
        return nok(f"{task_name} has no rate limit: set rpm or concurrency in overnight.toml")
    if not isinstance(rate_limit, str | int | None):
        return nok("rate_limit must be a number, or text such as 5/m")
    return _celery["rate_limit"](state, task_name, rate_limit, **options)


@control.control_command(  # type: ignore[untyped-decorator]  # as above
    args=[("task_name", str), ("soft", float), ("hard", float)], signature="<task_name> <soft_secs> [hard_secs]"
)
def time_limit(state: Any, task_name: Any = None, hard: Any = None, soft: Any = None, **options: Any) -> Any:
    """Limit how long a task runs. Overnight's own tasks need at least the time of the longest call."""
    if not _are_names(task_name):
        return nok("task_name must be a task's name")
    for seconds in (hard, soft):
        if seconds is not None and not (isinstance(seconds, int | float) and 0 < seconds < float("inf")):
            return nok("a time limit must be a number of seconds above 0")
    least = longest_call() if task_name.startswith(OWN) else 0.0
    if any(seconds is not None and seconds < least for seconds in (hard, soft)):
        return nok(f"{task_name} needs at least {least:g} s, the longest timeout of a provider")
    return _celery["time_limit"](state, task_name, hard, soft, **options)


def longest_call() -> float:
    """The longest `timeout` of a provider, in seconds."""
    return max((each.timeout for each in current_settings().providers.values()), default=0.0)


@control.control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")  # type: ignore[untyped-decorator]
def revoke(state: Any, task_id: Any, terminate: Any = False, signal: Any = None, **options: Any) -> Any:
    """Keep tasks from running; with `terminate`, cancel running ones."""
    ids = task_id if isinstance(task_id, list | tuple | set) else [task_id]
    if len(ids) > MAX_IDS or not _are_names(*ids):
        return nok(f"task_id must be a task's id, or a list of at most {MAX_IDS:,}")
    return _celery["revoke"](state, list(ids), bool(terminate), signal, **options)


@control.control_command(args=[("signal", str)], signature="<signal> [id1 [id2 [... [idN]]]]", variadic="task_id")  # type: ignore[untyped-decorator]
def terminate(state: Any, signal: Any, task_id: Any, **options: Any) -> Any:
    """Cancel running tasks."""
    return revoke(state, task_id, terminate=True, signal=signal, **options)


@control.control_command()  # type: ignore[untyped-decorator]  # as above
def shutdown(state: Any, **options: Any) -> Any:
    """Stop the worker."""
    del options
    return _celery["shutdown"](state, "stopped by a remote command")


@control.control_command(  # type: ignore[untyped-decorator]  # as above
    args=[("queue", str), ("exchange", str), ("exchange_type", str), ("routing_key", str)],
    signature="<queue> [exchange [type [routing_key]]]",
)
def add_consumer(state: Any, queue: Any, **options: Any) -> Any:
    """Consume from a queue."""
    given = [options.get(name) for name in ("exchange", "exchange_type", "routing_key")]
    if not _are_names(queue, *(value for value in given if value)):
        return nok("queue must be a queue's name")
    return _celery["add_consumer"](state, queue, *given)


@control.control_command(args=[("queue", str)], signature="<queue>")  # type: ignore[untyped-decorator]  # as above
def cancel_consumer(state: Any, queue: Any, **options: Any) -> Any:
    """Stop consuming from a queue."""
    del options
    return _celery["cancel_consumer"](state, queue) if _are_names(queue) else nok("queue must be a queue's name")


for _name in DROPPED:
    Panel.data.pop(_name, None)
    Panel.meta.pop(_name, None)
