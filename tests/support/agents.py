# ruff: noqa: ARG001 - an agent takes a body and llm, whether or not it needs them
"""Agents that the tests run in real workers: `agents = ["tests.support.agents"]`."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from tasks import CallFailed, Llm, StepFailed, agent


def line(name: str, number: int = 1, **body: Any) -> dict[str, Any]:
    """A line that calls one of them."""
    return {
        "custom_id": f"job-{number}",
        "method": "POST",
        "url": f"/agents/{name}",
        "body": {"number": number, **body},
    }


def said(text: str, job: str, **more: Any) -> dict[str, Any]:
    """The body of a chat call that the simulator's journal knows as `job`."""
    return {"model": "small", "messages": [{"role": "user", "content": text}], "user": job, "max_tokens": 50, **more}


@agent
async def chain(body: dict[str, Any], llm: Llm) -> dict[str, Any]:
    """Calls one after the other, each of which says what the last one answered."""
    texts: list[str] = []
    for number in range(body["calls"]):
        reply = await llm.chat(**said(texts[-1] if texts else "begin", f"{llm.custom_id}/{number}"))
        texts.append(reply.text)
    return {"texts": texts}


#: What `wandering` says next: a test changes it between two deliveries, as a deploy changes an agent's code.
WORDS = ["one"]


def at(seconds: float) -> str:
    """A time as `llm.now` returns it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


#: How often a step has run, by job.
RUNS: dict[str, int] = {}


@agent
async def lookup(body: dict[str, Any], llm: Llm) -> dict[str, Any]:
    """A call, a step, a call."""

    def fetch(key: str) -> dict[str, Any]:
        RUNS[llm.custom_id] = RUNS.get(llm.custom_id, 0) + 1
        return {"key": key, "pair": (1, 2)}

    plan = await llm.chat(**said("plan", f"{llm.custom_id}/plan"))
    facts = await llm.step("fetch", fetch, body["key"])
    answer = await llm.chat(**said(f"{plan.text} {facts}", f"{llm.custom_id}/answer"))
    return {"facts": facts, "answer": answer.text}


@agent
async def branches(body: dict[str, Any], llm: Llm) -> dict[str, Any]:
    """Three branches of two calls each, then one that takes all of them."""

    async def two(branch: int) -> list[str]:
        first = await llm.chat(**said(f"first of {branch}", f"{llm.custom_id}/{branch}/0"))
        second = await llm.chat(**said(f"{first.text} {llm.random()}", f"{llm.custom_id}/{branch}/1"))
        return [first.text, second.text, llm.now().isoformat()]

    found = await (asyncio.gather(*map(two, range(3))) if body.get("plain") else llm.gather(*map(two, range(3))))
    last = await llm.chat(**said(f"{found} {llm.now()}", f"{llm.custom_id}/last"))
    return {"found": found, "last": last.text}


@agent
async def wandering(body: dict[str, Any], llm: Llm) -> dict[str, Any]:
    """Asks something else each time that a test says so."""
    first = await llm.chat(**said(WORDS[0], f"{llm.custom_id}/0"))
    second = await llm.chat(**said("second", f"{llm.custom_id}/1"))
    return {"texts": [first.text, second.text]}


@agent
async def endless(body: dict[str, Any], llm: Llm) -> None:
    """Never has enough, whatever the answer is."""
    number = 0
    while True:
        with suppress(Exception):  # as agents are written
            await llm.chat(**said(f"more {number}", f"{llm.custom_id}/{number}", **body.get("more", {})))
        number += 1


@agent
async def sleeper(body: dict[str, Any], llm: Llm) -> None:
    """Calls once, and then waits for something that never comes."""
    await llm.chat(**said("first", f"{llm.custom_id}/0"))
    await asyncio.sleep(3600)


@agent
async def raising(body: dict[str, Any], llm: Llm) -> None:
    """Calls once, and raises."""
    await llm.chat(**said("first", f"{llm.custom_id}/0"))
    raise ValueError(f"no good: {body['secret']}")


@agent
async def leaving(body: dict[str, Any], llm: Llm) -> None:
    """Would end its process."""
    raise SystemExit(3)


@agent
async def unwritable(body: dict[str, Any], llm: Llm) -> Any:
    """Returns what JSON cannot hold."""
    await llm.chat(**said("first", f"{llm.custom_id}/0"))
    return {"when": [{1, 2}], "secret": body["secret"]}


@agent
async def stubborn(body: dict[str, Any], llm: Llm) -> dict[str, Any]:
    """Catches everything, and returns what it caught."""
    caught = []
    for number in range(3):
        try:
            await llm.chat(**said(f"call {number}", f"{llm.custom_id}/{number}"))
        except BaseException as exc:  # noqa: BLE001 - the worst that an agent can do
            caught.append(type(exc).__name__)
    return {"caught": caught}


@agent
async def fallback(body: dict[str, Any], llm: Llm) -> dict[str, Any]:
    """Goes another way if a call or a step fails."""

    def broken() -> None:
        raise KeyError("no such ticket")

    told = []
    try:
        await llm.chat(**said("refused", f"{llm.custom_id}/refused"))
    except CallFailed as exc:
        told.append(exc.code)
    try:
        await llm.step("broken", broken)
    except StepFailed as exc:
        told.append(exc.kind)
    told.append((await llm.chat(**said(f"{told}", f"{llm.custom_id}/last"))).text)
    return {"told": told}


@agent
async def large(body: dict[str, Any], llm: Llm) -> dict[str, Any]:
    """A step whose result is a file, and a call after it."""
    text = await llm.step("large", lambda: "x" * 200_000)
    answer = await llm.chat(**said("last", f"{llm.custom_id}/last"))
    return {"length": len(text), "answer": answer.text}


@agent
async def group(body: dict[str, Any], llm: Llm) -> dict[str, Any]:
    """A task group, whose tasks are cancelled when one of them stops; and a timeout of the agent's own."""
    replies = []

    async def one(number: int) -> None:
        replies.append((await llm.chat(**said(f"call {number}", f"{llm.custom_id}/{number}"))).text)

    async with asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(one(number))
    return {"replies": sorted(replies)}


@agent
async def nested(body: dict[str, Any], llm: Llm) -> None:
    """Calls from within a step."""

    async def inner() -> str:
        return (await llm.chat(**said("inner", f"{llm.custom_id}/inner"))).text

    await llm.step("outer", inner)


@agent
async def blocked(body: dict[str, Any], llm: Llm) -> str:
    """A step that blocks its thread for some seconds, then a call."""
    await llm.step("wait", time.sleep, body["seconds"])
    return (await llm.chat(**said("after", f"{llm.custom_id}/after"))).text


@agent
async def careless(body: dict[str, Any], llm: Llm) -> dict[str, str]:
    """Steps and tasks that raise what would end a thread, a future or the loop."""
    told = {}
    for kind in (SystemExit, KeyboardInterrupt, StopIteration):

        def leave(kind: type[BaseException] = kind) -> None:
            raise kind

        try:
            await llm.step(f"leave by {kind.__name__}", leave)
        except StepFailed as exc:
            told[kind.__name__] = f"{exc.kind}: {exc.message}"

    async def leave_the_loop() -> None:
        raise SystemExit(3)

    await asyncio.wait([asyncio.create_task(leave_the_loop())])
    return told


@agent
async def wordy(body: dict[str, Any], llm: Llm) -> list[int]:
    """Calls whose answers are files, side by side and one after the other."""

    async def one(number: int) -> int:
        return len((await llm.chat(**said(f"say much {number}", f"{llm.custom_id}/{number}", max_tokens=40_000))).text)

    together = await llm.gather(*(one(number) for number in range(body.get("together", 1))))
    return [*together, *[await one(number) for number in range(10, 10 + body.get("then", 1))]]


@agent
async def impatient(body: dict[str, Any], llm: Llm) -> dict[str, Any]:
    """Gives a slow call up, in one of the ways that asyncio has, goes another way, and makes two calls more."""

    async def slow() -> str:
        return (await llm.chat(**said("slow", f"{llm.custom_id}/slow"))).text

    async def quick() -> str:
        return (await llm.chat(**said("quick", f"{llm.custom_id}/quick"))).text

    path = ["in time"]
    match body["way"]:
        case "timeout":
            try:
                async with asyncio.timeout(body["seconds"]):
                    await slow()
            except TimeoutError:
                path = ["given up", await quick()]
        case "wait_for":
            try:
                await asyncio.wait_for(llm.gather(slow()), body["seconds"])
            except TimeoutError:
                path = ["given up", await quick()]
        case "race":
            racing = [asyncio.create_task(slow()), asyncio.create_task(quick())]
            done, late = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
            for task in late:
                task.cancel()
            await asyncio.wait(racing)
            path = ["given up" if late else "in time", *sorted(task.result() for task in done)]
    middle = await llm.chat(**said(f"after {path}", f"{llm.custom_id}/middle"))
    last = await llm.chat(**said(f"at last {middle.text}", f"{llm.custom_id}/last"))
    return {"path": path, "last": last.text}


@agent
async def deadly(body: dict[str, Any], llm: Llm) -> None:
    """Ends the process that it runs in, as one does that takes all of its memory."""
    del body, llm
    os.kill(os.getpid(), signal.SIGKILL)
