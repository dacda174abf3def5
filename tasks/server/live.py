"""Live calls: /v1/chat/completions, /v1/responses, /v1/embeddings and /v1/messages, streamed or not."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route

from limits.client.compact_json import dumps
from tasks.jobs import hooks
from tasks.jobs.job import Job, Line
from tasks.server.bodies import read_json
from tasks.server.errors import ApiError, bad_request
from tasks.server.live_call import LiveCall
from tasks.server.live_response import LiveResponse
from tasks.server.requests import request_id
from tasks.server.resources import Resources, client_of, resources
from workers.config.fields import is_model_name
from workers.providers import bodies
from workers.providers.endpoints import CHAT, EMBEDDINGS, LARGEST_REQUEST_MB, MESSAGES, RESPONSES

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

#: Bytes of the largest request that a provider takes.
LARGEST: Final = max(LARGEST_REQUEST_MB.values()) << 20

#: The header with the seconds that a client waits for its call to be sent to a provider.
MAX_WAIT: Final = "x-overnight-max-wait"

#: Its default and its largest value.
DEFAULT_WAIT, LONGEST_WAIT = 10.0, 600.0

#: The header that names a workflow. A body may name it in `metadata.workflow` instead.
WORKFLOW: Final = "x-overnight-workflow"

#: Finds the field's name at the start of a problem's message.
_FIELD: Final = re.compile(r"[a-z_]+(?:\[\d+\])*(?:\.[a-z_]+(?:\[\d+\])*)*")


class Live:
    """The endpoint of one url. It is an ASGI application, because it sends streams event by event."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one call."""
        request = Request(scope, receive)
        found = resources(request)
        body = checked(self.url, await read_json(request, LARGEST))
        patience = max_wait(request.headers)
        workflow = _workflow(request, found, body)
        name = request_id(request)
        job = Job(Line(name, self.url, body), name, workflow)
        response = LiveResponse(self.url, send)
        call = LiveCall(found.runtime, job, response, patience, request.is_disconnected)
        try:
            with hooks.delivery(job, name, _trace(request.headers)):
                await _answer(call, response)
        except ApiError as error:
            if not response.begun:
                raise
            await response.break_off(error)
        finally:
            response.attempt = None  # they refer to each other, and a large body would wait for the garbage collector


async def _answer(call: LiveCall, response: LiveResponse) -> None:
    """Make the call and finish its response."""
    answer = await call.make()
    if response.begun:
        await response.end()
    else:
        await response.whole(dumps(answer.body))
    if response.gone:
        raise ClientDisconnect


def checked(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """The body, if it is valid; else ApiError 400 with its problems."""
    model, stream = body.get("model"), body.get("stream")
    if not isinstance(model, str) or not is_model_name(model):
        raise bad_request("You must provide a model: its name, printable and without spaces.", "model")
    if stream is not None and not isinstance(stream, bool):
        raise bad_request("stream must be true or false.", "stream")
    if stream and url == EMBEDDINGS:
        raise bad_request("Embeddings are not streamed.", "stream")
    if problems := bodies.check_body(url, {**body, "stream": None}):
        field = _FIELD.match(problems[0])
        raise bad_request(f"{'; '.join(problems)}.", field[0] if field else None)
    return body


def max_wait(headers: Mapping[str, str]) -> float:
    """The seconds that the client waits for its call to be sent. ApiError 400 if the header is not such a number."""
    value = headers.get(MAX_WAIT)
    if value is None:
        return DEFAULT_WAIT
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_WAIT:
        raise bad_request(f"{MAX_WAIT} must be a number of seconds from 0 to {LONGEST_WAIT:g}.", MAX_WAIT)
    return seconds


def _workflow(request: Request, found: Resources, body: dict[str, Any]) -> str:
    """The workflow that pays for the call. Removes its name from the body's metadata: providers must not get it."""
    named: Any = request.headers.get(WORKFLOW)
    metadata = body.get("metadata")
    if isinstance(metadata, dict) and "workflow" in metadata:
        named = metadata["workflow"]
        rest = {name: value for name, value in metadata.items() if name != "workflow"}
        if rest:
            body["metadata"] = rest
        else:
            del body["metadata"]
    if named is not None and not isinstance(named, str):
        raise bad_request("metadata.workflow must be a workflow's name.", "metadata.workflow")
    workflow = client_of(request).workflow(named)
    if problem := found.settings.refusal(workflow):
        raise bad_request(f"{problem}.", "metadata.workflow", "unknown_workflow")
    return workflow


def _trace(headers: Headers) -> dict[str, str]:
    """The headers of the client's own trace."""
    return {name: value for name in ("traceparent", "tracestate") if (value := headers.get(name))}


ROUTES: Final = [Route(url, Live(url), methods=["POST"]) for url in (CHAT, RESPONSES, EMBEDDINGS, MESSAGES)]
