"""HTTP clients whose requests are an agent's calls: SDKs and frameworks work in an agent unchanged.

    client = openai.AsyncOpenAI(http_client=llm.httpx2_client(), api_key="unused")
    answer = await client.chat.completions.create(model="small", messages=[…])

A request's path gives its wire format, and the `model` of its body is a name in overnight.toml. The SDK's key and
address are ignored: the call goes to the provider that the admission chooses. The SDK gets a streamed answer when it
is complete and in the journal, so that a replay streams the same. Every response forbids the SDK to retry, because
Overnight has done so.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import httpx

from limits.client.compact_json import dumps, loads
from tasks.agents import calls
from tasks.agents.run import Run
from workers.providers import bodies, sse
from workers.providers.endpoints import CHAT, EMBEDDINGS, MESSAGES, RESPONSES

if TYPE_CHECKING:
    import httpx2

#: The url of a call by the end of its path. SDKs put different things before it: a base path, an Azure deployment.
_ENDS: Final = {
    "/chat/completions": CHAT,
    "/responses": RESPONSES,
    "/embeddings": EMBEDDINGS,
    "/messages": MESSAGES,
}

#: The HTTP status of a failure that has none, by its code.
_STATUS: Final = {"invalid_request": HTTPStatus.BAD_REQUEST, "request_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE}


@dataclass(frozen=True, slots=True)
class _Answer:
    """The response to the SDK."""

    status: int
    headers: dict[str, str]
    content: bytes


def httpx_client(run: Run) -> httpx.AsyncClient:
    """A client for SDKs that are built on httpx."""

    class Transport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            answer = await _answer(run, request.method, request.url.path, await request.aread())
            return httpx.Response(answer.status, headers=answer.headers, content=answer.content)

    return httpx.AsyncClient(transport=Transport(), timeout=None, trust_env=False)  # noqa: S113 - the provider's timeout applies


def httpx2_client(run: Run) -> "httpx2.AsyncClient":
    """A client for SDKs that are built on httpx2."""
    import httpx2  # noqa: PLC0415 - an extra

    class Transport(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            answer = await _answer(run, request.method, request.url.path, await request.aread())
            return httpx2.Response(answer.status, headers=answer.headers, content=answer.content)

    return httpx2.AsyncClient(transport=Transport(), timeout=None, trust_env=False)


async def _answer(run: Run, method: str, path: str, content: bytes) -> _Answer:
    url = next((url for end, url in _ENDS.items() if path.endswith(end)), None)
    if method != "POST" or url is None:
        served = ", ".join(f"POST …{end}" for end in _ENDS)
        message = f"{method} {path[:100]} is no call of an agent's ({served} are): other requests belong in llm.step()"
        return _refused("", HTTPStatus.NOT_FOUND, "invalid_request", message)
    try:
        body = loads(content)
    except ValueError:
        return _refused(url, HTTPStatus.BAD_REQUEST, "invalid_request", "the body is not JSON")
    streams = isinstance(body, dict) and sse.asks_for_stream(body)
    problems = bodies.check_body(url, {**body, "stream": False} if streams else body)
    if problems or not isinstance(body.get("model"), str):
        message = "; ".join(problems) or "body.model must name a model"
        return _refused(url, HTTPStatus.BAD_REQUEST, "invalid_request", message)
    line = await calls.call(run, url, sse.with_usage(url, body) if streams else body)
    if error := line["error"]:
        status = line["response"]["status_code"] if line["response"] else None
        status = status if status and status >= HTTPStatus.BAD_REQUEST else _STATUS.get(error["code"])
        return _refused(url, status or HTTPStatus.BAD_GATEWAY, error["code"], error["message"])
    return _answered(url, body, line["response"])


def _answered(url: str, asked: dict[str, Any], response: dict[str, Any]) -> _Answer:
    headers = {"content-type": "application/json", "x-should-retry": "false"}
    if request_id := response["request_id"]:
        headers["request-id" if url == MESSAGES else "x-request-id"] = request_id
    body = response["body"]
    if not sse.asks_for_stream(asked):
        return _Answer(response["status_code"], headers, dumps(body))
    stream: str = body["stream"]
    if url == CHAT and not sse.wants_usage(asked):
        stream = sse.without_usage(stream)
    return _Answer(response["status_code"], headers | {"content-type": sse.EVENT_STREAM}, stream.encode())


def _refused(url: str, status: int, code: str, message: str) -> _Answer:
    """An error response in the wire format, which the SDK raises as its own exception."""
    error: dict[str, Any] = {"type": code, "message": message}
    body = {"type": "error", "error": error} if url == MESSAGES else {"error": {**error, "code": code, "param": None}}
    headers = {"content-type": "application/json", "x-should-retry": "false"}
    return _Answer(int(status), headers, dumps(body))
