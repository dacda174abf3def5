"""The OpenAPI document: every route with its parameters and bodies, and the statuses that it answers with.

Objects have the fields of OpenAI's own document (https://github.com/openai/openai-openapi); only what is sent is here.
"""

from typing import Any, Final

from tasks.jobs.job import URLS
from tasks.server.fields import EXPIRY, METADATA
from tasks.server.live import DEFAULT_WAIT, LONGEST_WAIT
from workers.providers.endpoints import CHAT, EMBEDDINGS, MESSAGES, RESPONSES

_JSON: Final = "application/json"

#: The errors of any route that needs a key, and those that only live calls have.
_ERRORS: Final = ("400", "401", "403", "404", "408", "409", "413", "500", "503")
_LIVE_ERRORS: Final = ("402", "429", "502", "504")


def _text(**more: Any) -> dict[str, Any]:
    return {"type": "string", **more}


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema}


def _header(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": schema}


def _operation(
    name: str,
    summary: str,
    *,
    parameters: tuple[dict[str, Any], ...] = (),
    body: Any = None,
    errors: tuple[str, ...] = (),
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """An operation that needs a key. `errors` are those that not every route has, `more` are other responses."""
    error = {"$ref": "#/components/responses/Error"}
    responses = {"200": {"description": "as OpenAI answers"}, **(more or {})}
    made: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": responses | dict.fromkeys(sorted({*_ERRORS, *errors}), error),
    }
    if parameters:
        made["parameters"] = list(parameters)
    if body is not None:
        made["requestBody"] = {"required": True, "content": body}
    return made


def _open(name: str, summary: str, content_type: str, **more: Any) -> dict[str, Any]:
    """A GET that needs no key."""
    answer = {"description": summary, "content": {content_type: {}}}
    return {"get": {"operationId": name, "summary": summary, "security": [], "responses": {"200": answer, **more}}}


def _id(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _text(minLength=1)}


_EXPIRES: Final = {
    "type": "object",
    "required": ["anchor", "seconds"],
    "properties": {
        "anchor": _text(enum=["created_at"]),
        "seconds": {"type": "integer", "minimum": EXPIRY[0], "maximum": EXPIRY[1]},
    },
}

_UPLOAD: Final = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["file", "purpose"],
            "properties": {"file": _text(format="binary"), "purpose": _text(enum=["batch"]), "expires_after": _EXPIRES},
        }
    }
}

_CREATE: Final = {
    _JSON: {
        "schema": {
            "type": "object",
            "required": ["input_file_id", "endpoint", "completion_window"],
            "properties": {
                "input_file_id": _text(),
                "endpoint": _text(description=f"one of {', '.join(URLS)}, or /agents/NAME"),
                "completion_window": _text(description="a duration, such as 24h, 90m or 7d", example="24h"),
                "metadata": {
                    "type": ["object", "null"],
                    "maxProperties": METADATA[0],
                    "additionalProperties": _text(maxLength=METADATA[2]),
                },
                "output_expires_after": _EXPIRES,
            },
        }
    }
}

_LIVE: Final = {_JSON: {"schema": {"type": "object", "required": ["model"], "properties": {"model": _text()}}}}

_AFTER: Final = _query("after", _text())

_ORDER: Final = _query("order", _text(enum=["asc", "desc"]))

_KEY: Final = _header("Idempotency-Key", _text(maxLength=255))

_RANGE: Final = _header("Range", _text(description="bytes=N-, for the rest from byte N on"))

_WAIT: Final = (
    _header("X-Overnight-Max-Wait", {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT, "default": DEFAULT_WAIT}),
    _header("X-Overnight-Workflow", _text()),
)

_PARTS: Final = {"206": {"description": "the rest of it"}, "416": {"description": "it has no more bytes"}}

_AWAY: Final = {"503": {"$ref": "#/components/responses/Error"}}


def _limit(largest: int) -> dict[str, Any]:
    return _query("limit", {"type": "integer", "minimum": 1, "maximum": largest})


def _live(url: str, summary: str) -> dict[str, Any]:
    """A live call."""
    name = "create" + "".join(part.capitalize() for part in url.removeprefix("/v1/").split("/"))
    return {"post": _operation(name, summary, parameters=_WAIT, body=_LIVE, errors=_LIVE_ERRORS)}


_FILE: Final = (_id("file_id"),)

_BATCH: Final = (_id("batch_id"),)

DOCUMENT: Final[dict[str, Any]] = {
    "openapi": "3.1.0",
    "info": {"title": "Overnight", "version": "1", "description": "OpenAI's API in front of every provider."},
    "security": [{"key": []}, {"x-api-key": []}],
    "paths": {
        "/": _open("page", "What this is", "text/plain"),
        "/openapi.json": _open("document", "This document", _JSON),
        "/healthz": _open("health", "Whether the server can serve", _JSON, **_AWAY),
        "/v1/files": {
            "post": _operation("createFile", "Upload a file", body=_UPLOAD),
            "get": _operation(
                "listFiles", "List files", parameters=(_AFTER, _limit(10_000), _ORDER, _query("purpose", _text()))
            ),
        },
        "/v1/files/{file_id}": {
            "get": _operation("retrieveFile", "One file", parameters=_FILE),
            "delete": _operation("deleteFile", "Delete a file", parameters=_FILE),
        },
        "/v1/files/{file_id}/content": {
            "get": _operation("downloadFile", "A file's bytes", parameters=(*_FILE, _RANGE), more=_PARTS)
        },
        "/v1/batches": {
            "post": _operation("createBatch", "Create a batch", parameters=(_KEY,), body=_CREATE),
            "get": _operation("listBatches", "List batches", parameters=(_AFTER, _limit(100))),
        },
        "/v1/batches/{batch_id}": {"get": _operation("retrieveBatch", "One batch", parameters=_BATCH)},
        "/v1/batches/{batch_id}/cancel": {"post": _operation("cancelBatch", "Cancel a batch", parameters=_BATCH)},
        "/v1/models": {"get": _operation("listModels", "Every name that `model` may have")},
        "/v1/models/{model}": {"get": _operation("retrieveModel", "One of them", parameters=(_id("model"),))},
        CHAT: _live(CHAT, "A chat completion, streamed or not"),
        RESPONSES: _live(RESPONSES, "A response, streamed or not"),
        EMBEDDINGS: _live(EMBEDDINGS, "Embeddings"),
        MESSAGES: _live(MESSAGES, "A message of Anthropic's API, streamed or not, with errors in Anthropic's form"),
    },
    "components": {
        "securitySchemes": {
            "key": {"type": "http", "scheme": "bearer"},
            "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        },
        "responses": {
            "Error": {
                "description": "OpenAI's error object",
                "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
            }
        },
        "schemas": {
            "Error": {
                "type": "object",
                "required": ["error"],
                "properties": {
                    "error": {
                        "type": "object",
                        "required": ["message", "type"],
                        "properties": {
                            "message": _text(),
                            "type": _text(),
                            "param": {"type": ["string", "null"]},
                            "code": {"type": ["string", "null"]},
                        },
                    }
                },
            }
        },
    },
}
