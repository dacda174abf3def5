"""Workflow, model, provider, tokens and cost in Flower's list of tasks, and in its page of one task.

The fields arrive in our workers' events (`workers.request.JobRequest`). Celery's record of a task keeps only the fields
that it lists, so ours are added to its list.
"""

import ast
from typing import Any

import flower.views.tasks as views
from celery.events.state import Task

from tasks.monitoring.flower.incoming import TEXTS, is_number, text

#: Our fields of a task -> the label of their column.
FIELDS = {
    "workflow": "Workflow",
    "provider": "Provider",
    "model": "Model",
    "tokens": "Tokens",
    "cost_usd": "Cost",
    "attempts": "Attempts",
}

#: The columns that the list shows by default. `exception` is why a job waits or failed.
SHOWN = "workflow,state,model,provider,tokens,cost_usd,runtime,received,exception,uuid,worker"


def install() -> None:
    """Add our fields to Celery's and Flower's lists, once in a process."""
    views.TASK_COLUMNS.update(FIELDS)
    views.TASK_COLUMNS["exception"] = "Why"
    for name in FIELDS:
        if name not in Task._fields:
            Task._fields = (*Task._fields, name)
            setattr(Task, name, None)


#: Attributes of a task that are objects of Celery's; Flower shows their names.
_OBJECTS = frozenset({"worker", "client", "root", "parent", "children"})


def readable(task: Any) -> Any:
    """Make a task's values readable, for Flower's `format_task`."""
    for name in task._fields:
        value = getattr(task, name, None)
        if name not in _OBJECTS and value is not None:
            setattr(task, name, text(value, TEXTS.get(name, 300)))
    if task.workflow is None:
        task.workflow = _workflow(task.kwargs)
    if not task.provider:
        task.provider = task.model = task.tokens = task.cost_usd = None
    if is_number(task.cost_usd):
        task.cost_usd = f"${task.cost_usd:,.6f}".rstrip("0").rstrip(".")
    if task.state not in {"RETRY", "FAILURE", "REVOKED"}:
        task.exception = None  # why it was snoozed before
    if task.result in {"None", "...", "''"}:
        task.result = None
    return task


def _workflow(kwargs: Any) -> str | None:
    """The workflow of a task that was only received: that event has the kwargs, and none of our fields."""
    try:
        found = ast.literal_eval(kwargs)["workflow"]
    except (ValueError, SyntaxError, TypeError, KeyError):
        return None
    return found if isinstance(found, str) else None
