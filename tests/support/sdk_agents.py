"""Agents on other people's clients, as their documentation shows them: `agents = ["tests.support.sdk_agents"]`."""

from typing import Any

import anthropic
import openai
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tasks import Llm, agent

KEY = "unused: the providers' keys stand in overnight.toml"


@agent
async def openai_sdk(body: dict[str, Any], llm: Llm) -> dict[str, Any]:
    """Every way to call that the SDK has, whole and streamed."""
    http_client = llm.http_client() if body.get("httpx") else llm.httpx2_client()
    client = openai.AsyncOpenAI(http_client=http_client, api_key=KEY)
    messages: Any = [{"role": "user", "content": "hello"}]
    whole = await client.chat.completions.create(
        model="small", messages=messages, max_tokens=40, user=f"{llm.custom_id}/chat"
    )
    streamed = ""
    async with client.chat.completions.stream(
        model="small", messages=messages, max_tokens=40, user=f"{llm.custom_id}/stream"
    ) as stream:
        async for event in stream:
            if event.type == "content.delta":
                streamed += event.delta
    response = await client.responses.create(model="small", input="hello", user=f"{llm.custom_id}/response")
    deltas = ""
    async for piece in await client.responses.create(
        model="small", input="hello", stream=True, user=f"{llm.custom_id}/response-stream"
    ):
        if piece.type == "response.output_text.delta":
            deltas += piece.delta
    embedded = await client.embeddings.create(model="small", input=["a", "b"], user=f"{llm.custom_id}/embed")
    return {
        "chat": whole.choices[0].message.content,
        "stream": streamed,
        "response": response.output_text,
        "response_stream": deltas,
        "vectors": len(embedded.data),
    }


@agent
async def plain_chunks(_body: dict[str, Any], llm: Llm) -> dict[str, Any]:
    """Reads chunks as old examples do, that expect a choice in each."""
    client = openai.AsyncOpenAI(http_client=llm.httpx2_client(), api_key=KEY)
    messages: Any = [{"role": "user", "content": "hello"}]
    text = ""
    stream = await client.chat.completions.create(model="small", messages=messages, stream=True, user=llm.custom_id)
    async for chunk in stream:
        text += chunk.choices[0].delta.content or ""
    return {"text": text}


@agent
async def refused(_body: dict[str, Any], llm: Llm) -> dict[str, Any]:
    """What the SDK makes of failures."""
    client = openai.AsyncOpenAI(http_client=llm.httpx2_client(), api_key=KEY)
    messages: Any = [{"role": "user", "content": "hello"}]
    told = {}
    for model, job in (("small", "bad"), ("unknown-model", "none")):
        try:
            await client.chat.completions.create(model=model, messages=messages, user=f"{llm.custom_id}/{job}")
        except openai.APIStatusError as exc:
            told[job] = [type(exc).__name__, exc.status_code]
    try:
        await client.models.list()
    except openai.NotFoundError as exc:
        told["models"] = [str(exc)]
    return told


@agent
async def anthropic_sdk(_body: dict[str, Any], llm: Llm) -> dict[str, Any]:
    """A message, whole and streamed."""
    client = anthropic.AsyncAnthropic(http_client=llm.httpx2_client(), api_key=KEY)
    messages: Any = [{"role": "user", "content": "hello"}]
    more: Any = {"model": "claude", "max_tokens": 40, "messages": messages}
    whole = await client.messages.create(**more, metadata={"user_id": "1"})
    async with client.messages.stream(**more) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        usage = (await stream.get_final_message()).usage.output_tokens
    return {"whole": whole.content[0].text, "stream": text, "usage": usage}  # type: ignore[union-attr]


class Triage(BaseModel):
    """What the framework is to return."""

    queue: str
    urgency: int


@agent
async def pydantic_ai(body: dict[str, Any], llm: Llm) -> dict[str, Any]:
    """An agent of the framework's with a tool of its own, streamed or not."""
    provider = OpenAIProvider(openai_client=openai.AsyncOpenAI(http_client=llm.httpx2_client(), api_key=KEY))
    assistant = Agent(
        OpenAIChatModel("small", provider=provider),
        instructions="Answer in one sentence.",
        model_settings={"max_tokens": 60, "extra_body": {"user": llm.custom_id}},
    )

    @assistant.tool_plain
    async def orders(customer: str) -> list[str]:
        """The orders of a customer."""
        return await llm.step("orders", lambda: [f"order of {customer}"])  # type: ignore[no-any-return]

    if body.get("stream"):
        async with assistant.run_stream("What did Ada order?") as stream:
            return {"output": await stream.get_output(), "requests": stream.usage.requests}
    result = await assistant.run("What did Ada order?")
    return {"output": result.output, "requests": result.usage.requests}
