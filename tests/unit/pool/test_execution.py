"""A task that cannot even begin frees its slot and is reported to Celery as failed."""

import time
from typing import Any

import pytest
from celery import Celery

from tests.support.site import wait_for
from workers.pool.coroutine_execution import CoroutineExecution
from workers.pool.execution import Execution, PoolTask
from workers.pool.loop import EventLoop
from workers.pool.main_thread import Mailbox
from workers.pool.thread_execution import ThreadExecution


@pytest.mark.parametrize("kind", [CoroutineExecution, ThreadExecution])
def test_a_task_with_an_invalid_time_limit_fails(kind: type[Execution]) -> None:
    failures: list[Any] = []
    ended: list[Execution] = []

    def free(execution: Execution) -> bool:
        ended.append(execution)
        return True

    wrong: Any = "b"
    pool_task = PoolTask(
        time.time, (), lambda *_: None, pytest.fail, failures.append, lambda *_: None, soft=wrong, hard=None
    )
    mailbox, event_loop = Mailbox(inline=False), EventLoop(Celery(set_as_current=False))
    try:
        execution = kind(1, pool_task, mailbox, free)
        execution.start(event_loop)
        wait_for(lambda: mailbox.deliver() or failures, 5, every=0.01, what="a failure")
    finally:
        event_loop.end()
    assert ended == [execution]
    assert failures[0].type is TypeError
