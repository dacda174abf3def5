"""What an agent is given: a client whose calls are admitted, paid for and kept in the journal.

    plan  = await llm.chat(model="small", messages=[…])           a call, in OpenAI's chat format
    facts = await llm.step("lookup", fetch_facts, ticket["id"])   any other effect: runs once
    parts = await llm.gather(*(summary(text, llm) for text in texts))

A job that waited is run again from its journal, so everything that differs from run to run must come through here:
the time is `llm.now()`, random numbers are `llm.random()`, and whatever reads or changes the world is a step.
"""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from limits.budget import NANO
from tasks.agents import calls
from tasks.agents.errors import CallFailed, Stop
from tasks.agents.position import Branch, current
from tasks.agents.reply import Embeddings, Reply
from tasks.agents.run import Run
from workers.providers import bodies
from workers.providers.endpoints import CHAT, EMBEDDINGS, MESSAGES, RESPONSES

if TYPE_CHECKING:
    import httpx
    import httpx2

T = TypeVar("T")


class Llm:
    """The client of one run of an agent. It makes no calls after that run has ended."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __repr__(self) -> str:
        return f"Llm(custom_id={self.custom_id!r})"

    # Which job it is

    @property
    def custom_id(self) -> str:
        """The `custom_id` of the job's line."""
        return self._run.job.line.custom_id

    @property
    def workflow(self) -> str:
        """The job's workflow."""
        return self._run.job.workflow

    @property
    def batch(self) -> str | None:
        """The job's batch, None for a single job."""
        return self._run.job.batch

    @property
    def cost_usd(self) -> float:
        """The cost of the job so far. A replay starts with what was paid before: don't branch on it."""
        return self._run.cost / NANO

    # Calls

    async def chat(self, *, model: str, messages: list[Any], **more: Any) -> Reply:
        """A chat completion (https://platform.openai.com/docs/api-reference/chat). `more` goes into its body.

        CallFailed if there is no answer after all retries; ValueError if the body is invalid.
        """
        return await self._call(CHAT, {"model": model, "messages": messages, **more})

    async def responses(self, *, model: str, input: str | list[Any], **more: Any) -> Reply:  # noqa: A002 - OpenAI's name
        """A response (https://platform.openai.com/docs/api-reference/responses); otherwise like `chat`."""
        return await self._call(RESPONSES, {"model": model, "input": input, **more})

    async def messages(self, *, model: str, messages: list[Any], max_tokens: int, **more: Any) -> Reply:
        """A message (https://platform.claude.com/docs/en/api/messages); otherwise like `chat`."""
        return await self._call(MESSAGES, {"model": model, "messages": messages, "max_tokens": max_tokens, **more})

    async def embed(self, *, model: str, input: str | list[Any], **more: Any) -> Embeddings:  # noqa: A002 - OpenAI's name
        """Embeddings (https://platform.openai.com/docs/api-reference/embeddings); otherwise like `chat`."""
        found = await self._call(EMBEDDINGS, {"model": model, "input": input, **more})
        return Embeddings(found.body, found.provider, found.model, found.cost_usd)

    async def _call(self, url: str, body: dict[str, Any]) -> Reply:
        if problems := bodies.check_body(url, body):
            raise ValueError("; ".join(problems))
        line = await calls.call(self._run, url, body)
        if error := line["error"]:
            status = line["response"]["status_code"] if line["response"] else None
            raise CallFailed(error["code"], error["message"], status)
        report = line["overnight"]
        return Reply(line["response"]["body"], report["provider"], report["model"], report["cost_usd"])

    # Other effects

    async def step(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a function once; every replay returns the same. The result must be JSON: lists, dicts, plain values.

        A coroutine runs on the worker's loop, any other function in a thread. If the worker is killed while the
        function runs, it runs again. StepFailed if it raised, or returned something that JSON cannot hold.
        """
        return await calls.step(self._run, name, function, args, kwargs)

    async def gather(self, *branches: Coroutine[Any, Any, T], return_exceptions: bool = False) -> list[Any]:
        """Run branches concurrently; their results, in the order of the branches.

        All of them run to their ends. Then the first exception, in that order, is raised. With `return_exceptions`
        exceptions are in the results instead.
        """
        if not branches:
            return []
        branch, position = self._run.fork()
        forks = [branch.fork(f"{position}.{number}") for number in range(len(branches))]
        tasks = [asyncio.create_task(_within(fork, each)) for fork, each in zip(forks, branches, strict=True)]
        try:
            await _ended(tasks)
        finally:
            # One branch was stopped, or the agent cancelled: stop the others too. Calls in flight do finish.
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        branch.now = max(branch.now, *(fork.now for fork in forks))
        if self._run.stop is not None:
            raise self._run.stop
        for result in results:
            if isinstance(result, BaseException) and not (return_exceptions and isinstance(result, Exception)):
                raise result
        return results

    # Time and chance

    def now(self) -> datetime:
        """The time, in UTC, at which the last call or step of this branch ended. The same in every replay."""
        return datetime.fromtimestamp(current().now, UTC)

    def random(self) -> float:
        """A random number, 0 <= x < 1. The same in every replay."""
        return current().random.random()

    # SDKs

    def http_client(self) -> "httpx.AsyncClient":
        """A client for SDKs and frameworks on httpx: its requests are this agent's calls.

        The request's `model` is a name in overnight.toml; the SDK's key, address and retries are ignored.
        """
        from tasks.agents.http_client import httpx_client  # noqa: PLC0415 - importing httpx takes time, and agents without an SDK do not need it

        return httpx_client(self._run)

    def httpx2_client(self) -> "httpx2.AsyncClient":
        """The same for SDKs on httpx2; ImportError without the extra `overnight[httpx2]`."""
        from tasks.agents.http_client import httpx2_client  # noqa: PLC0415 - as above

        return httpx2_client(self._run)


async def _within(branch: Branch, coroutine: Coroutine[Any, Any, T]) -> T:
    branch.enter()
    return await coroutine


async def _ended(tasks: list["asyncio.Task[Any]"]) -> None:
    """Wait until all tasks have ended, or one was stopped."""
    waiting = set(tasks)
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if any(not task.cancelled() and isinstance(task.exception(), Stop) for task in done):
            return
