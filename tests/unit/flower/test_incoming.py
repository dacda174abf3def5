"""Events that anyone may publish: known fields of the right type are kept, and no event makes a page fail."""

import random
from typing import Any

import pytest
from celery.events.state import State, Task

from tasks.monitoring.flower import columns
from tasks.monitoring.flower.incoming import NUMBERS, TEXTS, checked
from tasks.monitoring.flower.watch import MOST_REASONS, Watch
from workers.transport.envelope import JOB

SCRIPT = '<img src=x onerror="alert(1)">'

EVENT = {"type": "task-received", "hostname": "w1@host", "timestamp": 1_796_000_000.5, "clock": 7, "uuid": "u1"}


def test_a_field_of_another_type_becomes_text() -> None:
    found = checked({**EVENT, "workflow": [SCRIPT], "exception": {"a": SCRIPT}, "name": JOB, "runtime": "b"})
    assert found is not None
    assert found["workflow"] == repr([SCRIPT])
    assert found["exception"] == repr({"a": SCRIPT})
    assert "runtime" not in found


@pytest.mark.parametrize(
    "event",
    [
        "text",
        [],
        {**EVENT, "type": ["task-received"]},
        {**EVENT, "type": "task-<b>"},
        {**EVENT, "timestamp": "soon"},
        {**EVENT, "timestamp": 1e300},
        {**EVENT, "uuid": None},
        {key: value for key, value in EVENT.items() if key != "hostname"},
    ],
)
def test_an_event_without_what_celery_needs_is_dropped(event: Any) -> None:
    assert checked(event) is None


def test_attributes_of_celerys_objects_are_dropped() -> None:
    found = checked({**EVENT, "as_dict": "x", "_fields": [], "cluster_state": 1, "state": SCRIPT, "worker": SCRIPT})
    assert found == EVENT


def test_text_is_plain_and_bounded() -> None:
    found = checked({**EVENT, "exception": "a\x1b]52;c;x\x07b\u202e" + "x" * 5_000, "traceback": "one\n\ttwo"})
    assert found is not None
    assert found["exception"].startswith("a\ufffd]52;c;x\ufffdb\ufffdx")
    assert len(found["exception"]) == TEXTS["exception"]
    assert found["traceback"] == "one\n\ttwo"


def test_the_start_of_a_prompt_is_dropped() -> None:
    sent = {
        **EVENT,
        "type": "task-sent",
        "name": JOB,
        "args": "()",
        "kwargs": "{'job': {'body': {'input': 'private'}}}",
    }
    found = checked(sent)
    assert found is not None
    assert (found["args"], found["kwargs"]) == ("()", "{}")
    assert checked({**sent, "type": "task-received"}) != found, "our workers say which batch and line it is"


def test_celery_accepts_and_shows_any_checked_event() -> None:
    columns.install()
    state, watch = State(), Watch(None, None)  # type: ignore[arg-type]  # nothing is read
    state.event_callback = watch.event
    odd: list[Any] = [None, True, 1, -1, 0.5, float("nan"), 10**400, "", SCRIPT, "\x00", [], [SCRIPT], {}, {"a": []}]
    names = [*NUMBERS, *TEXTS, "loadavg", "type", "state", "children"]
    pick = random.Random(29)
    kept = 0
    for number in range(3_000):
        kind = pick.choice(["task-received", "task-retried", "task-succeeded", "worker-heartbeat", "task-failed"])
        event = {**EVENT, "type": kind, "uuid": f"u{number}"}
        event |= {pick.choice(names): pick.choice(odd) for _ in range(3)}
        found = checked(event)
        if found is not None:
            kept += 1
            state.event({"clock": 1, **found, "local_received": 1_796_000_001.0})  # as Celery's receiver adds
    assert kept > 1_500
    for _, task in state.tasks_by_time():
        shown = columns.readable(task).as_dict()
        kinds = {name: type(value) for name, value in shown.items() if name not in {"worker", "client", "children"}}
        assert set(kinds.values()) <= {str, int, float, type(None)}
    for worker in state.workers.values():
        assert isinstance(worker.active, int | float | type(None))


def test_a_task_of_the_wrong_type_is_shown_as_text() -> None:
    """Such a task may be in a file of an earlier version."""
    columns.install()
    task = Task(uuid="u", workflow=[SCRIPT], provider="acme", cost_usd="x", kwargs={"a": 1})
    shown = columns.readable(task)
    assert (shown.workflow, shown.cost_usd, shown.kwargs) == (repr([SCRIPT]), "x", "{'a': 1}")


def test_reasons_of_snoozes_are_bounded() -> None:
    watch = Watch(None, None)  # type: ignore[arg-type]  # nothing is read
    for number in range(MOST_REASONS + 50):
        watch.event(None, {"type": "task-retried", "workflow": f"w{number}", "exception": "waits 1.0 s: x"})
    watch.event(None, {"type": "task-retried", "workflow": ["unhashable"]})
    assert len(watch.reasons) == MOST_REASONS
    assert watch.reasons["w0"][1] == "x"
