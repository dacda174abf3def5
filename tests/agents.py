"""Agents that the tests run in real workers: `agents = ["tests.agents"]`."""

from typing import Any

from tasks import Llm, agent


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
