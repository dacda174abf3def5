"""A task that cannot even begin has ended: its place in the pool is free, and Celery is told."""

import time
from typing import Any

import pytest
from celery import Celery

from tests.support.site import wait_for
from workers.pool.execution import CoroutineExecution, Execution, Order, ThreadExecution
from workers.pool.loop import EventLoop
from workers.pool.main_thread import Mailbox


@pytest.mark.parametrize("kind", [CoroutineExecution, ThreadExecution])
def test_limits_that_are_no_numbers_end_it(kind: type[Execution]) -> None:
    failures: list[Any] = []
    ended: list[Execution] = []

    def free(execution: Execution) -> bool:
        ended.append(execution)
        return True

    wrong: Any = "b"
    order = Order(time.time, (), lambda *_: None, pytest.fail, failures.append, lambda *_: None, soft=wrong, hard=None)
    mailbox, place = Mailbox(inline=False), EventLoop(Celery(set_as_current=False))
    try:
        execution = kind(1, order, mailbox, free)
        execution.start(place)
        wait_for(lambda: mailbox.deliver() or failures, 5, every=0.01, what="a failure")
    finally:
        place.end()
    assert ended == [execution]
    assert failures[0].type is TypeError
