"""The OpenAPI document: every route with its parameters and bodies, and the statuses that it answers with.

Objects have the fields of OpenAI's own document (https://github.com/openai/openai-openapi); only what is sent is here.
"""

from typing import Any, Final

from tasks.jobs.job import URLS
from tasks.server.fields import EXPIRY, METADATA

_JSON: Final = "application/json"

#: What any route may answer.
_ERRORS: Final = ("400", "401", "403", "404", "408", "409", "413", "429", "503")


def _text(**more: Any) -> dict[str, Any]:
    return {"type": "string", **more}


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema}


def _operation(summary: str, *, parameters: tuple[dict[str, Any], ...] = (), body: Any = None) -> dict[str, Any]:
    error = {
        "description": "OpenAI's error object",
        "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    made: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": "as OpenAI answers"}, **dict.fromkeys(_ERRORS, error)},
    }
    if parameters:
        made["parameters"] = list(parameters)
    if body is not None:
        made["requestBody"] = {"required": True, "content": body}
    return made


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

_KEY: Final = {"name": "Idempotency-Key", "in": "header", "schema": _text(maxLength=255)}


def _limit(largest: int) -> dict[str, Any]:
    return _query("limit", {"type": "integer", "minimum": 1, "maximum": largest})


DOCUMENT: Final[dict[str, Any]] = {
    "openapi": "3.1.0",
    "info": {"title": "Overnight", "version": "1", "description": "OpenAI's API in front of every provider."},
    "security": [{"key": []}],
    "paths": {
        "/v1/files": {
            "post": _operation("Upload a file", body=_UPLOAD),
            "get": _operation(
                "List files",
                parameters=(
                    _AFTER,
                    _limit(10_000),
                    _query("order", _text(enum=["asc", "desc"])),
                    _query("purpose", _text()),
                ),
            ),
        },
        "/v1/files/{file_id}": {
            "get": _operation("One file", parameters=(_id("file_id"),)),
            "delete": _operation("Delete a file", parameters=(_id("file_id"),)),
        },
        "/v1/files/{file_id}/content": {"get": _operation("A file's bytes", parameters=(_id("file_id"),))},
        "/v1/batches": {
            "post": _operation("Create a batch", parameters=(_KEY,), body=_CREATE),
            "get": _operation("List batches", parameters=(_AFTER, _limit(100))),
        },
        "/v1/batches/{batch_id}": {"get": _operation("One batch", parameters=(_id("batch_id"),))},
        "/v1/batches/{batch_id}/cancel": {"post": _operation("Cancel a batch", parameters=(_id("batch_id"),))},
        "/v1/models": {"get": _operation("Every name that `model` may have")},
        "/v1/models/{model}": {"get": _operation("One of them", parameters=(_id("model"),))},
        **{url: {"post": _operation("A live call", body=_LIVE)} for url in URLS},
    },
    "components": {
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        "schemas": {
            "Error": {
                "type": "object",
                "required": ["error"],
                "properties": {"error": {"type": "object", "required": ["message", "type"]}},
            }
        },
    },
}
