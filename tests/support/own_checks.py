"""Checks of answers as a user may write them."""

import asyncio
import sys
import threading
import time
from typing import Any

#: Set to end the function that hangs.
over = threading.Event()


def seven(answer: Any) -> str | None:
    """Valid is an answer whose total is 7."""
    return None if answer.json()["total"] == 7 else "the total is not 7"


async def later(answer: Any) -> bool:
    await asyncio.sleep(0.01)
    return answer.text != "no"


def strict(answer: Any) -> None:
    assert answer.text == "yes", "only yes will do"


def broken(answer: Any) -> None:
    raise KeyError(answer.custom_id)


def hangs(answer: Any) -> None:
    del answer
    over.wait(60)


async def hangs_later(answer: Any) -> None:
    del answer
    await asyncio.sleep(60)


def quits(answer: Any) -> None:
    sys.exit(answer.text)


async def cancels(answer: Any) -> None:
    raise asyncio.CancelledError(answer)


def stops(answer: Any) -> None:
    raise StopIteration(answer)


def counts(answer: Any) -> int:
    return len(answer.text)


def slow(answer: Any) -> None:
    del answer
    time.sleep(0.3)


def two(answer: Any, more: Any) -> None:
    del answer, more


NUMBER = 7
