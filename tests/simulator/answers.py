"""Answers in each wire format: a function of the request alone, so a test knows what must come back."""

import zlib
from typing import Any

import orjson

CREATED = 1_764_000_000

#: Modes of failure in which a whole answer comes that has something wrong in it.
ALTERED = frozenset({"no_usage", "usage_32_bits", "usage_64_bits", "told_failure", "told_failure_32_bits", "deep"})


def job_of(body: dict[str, Any]) -> str:
    """The mark by which a test finds its job again: `metadata.job`, else `user`, else the last text."""
    metadata = body.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("job"), str):
        return str(metadata["job"])
    if isinstance(body.get("user"), str):
        return str(body["user"])
    said = body.get("messages", body.get("input"))
    if isinstance(said, list) and said:
        said = said[-1]
    if isinstance(said, dict):
        said = said.get("content")
    if isinstance(said, list) and said and isinstance(said[-1], dict):
        said = said[-1].get("text")
    return said[:200] if isinstance(said, str) else ""


def pick(span: float | list[Any], job: str, salt: str) -> float:
    """A number, or the one in a pair's range that the job's hash picks."""
    if not isinstance(span, list):
        return span
    low, high = span
    return float(low + (high - low) * (zlib.crc32(f"{salt}:{job}".encode()) / 2**32))


def answer_text(job: str, tokens: int) -> str:
    """What the simulator answers to a job with this many tokens."""
    return f"answer {zlib.crc32(job.encode()):08x}" + " word" * max(0, tokens - 2)


def expected_text(body: dict[str, Any], answer_tokens: int | list[int] = 8) -> str:
    """The text that must come back for a body, given the simulator's `answer_tokens`."""
    job = job_of(body)
    return answer_text(job, made_tokens(body, job, answer_tokens))


def made_tokens(body: dict[str, Any], job: str, answer_tokens: int | list[int]) -> int:
    """Output tokens of one answer: what is configured, at most the body's ceiling."""
    made = round(pick(answer_tokens, job, "tokens"))
    ceiling = ceiling_of(body)
    return min(made, ceiling) if ceiling else made


def ceiling_of(body: dict[str, Any]) -> int:
    for field in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        if isinstance(body.get(field), int):
            return int(body[field])
    return 0


def chat(body: dict[str, Any], model: str, job: str, asked: int, made: int, cached: int) -> dict[str, Any]:
    n = body.get("n") or 1
    finish = "length" if ceiling_of(body) and made >= ceiling_of(body) else "stop"
    return {
        "id": f"chatcmpl-{zlib.crc32(job.encode()):08x}",
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": answer_text(job, made)},
                "finish_reason": finish,
            }
            for index in range(n)
        ],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": made * n,
            "total_tokens": asked + made * n,
            "prompt_tokens_details": {"cached_tokens": min(cached, asked)},
        },
    }


def wants_tool(body: dict[str, Any]) -> bool:
    """Whether a chat offers tools and holds no tool's answer yet."""
    return bool(body.get("tools")) and not any(turn.get("role") == "tool" for turn in body["messages"])


def call_tool(answer: dict[str, Any], body: dict[str, Any], job: str) -> None:
    """Have the answer call the chat's first tool, with a value for each argument that the tool needs."""
    function = body["tools"][0]["function"]
    schema = function.get("parameters") or {}
    values = {"integer": 7, "number": 7.5, "boolean": True, "array": [], "object": {}}
    arguments = {
        name: values.get(schema["properties"][name].get("type"), f"{name} of {job}")
        for name in schema.get("required", [])
    }
    call = {
        "id": f"call_{zlib.crc32(job.encode()):08x}",
        "type": "function",
        "function": {"name": function["name"], "arguments": orjson.dumps(arguments).decode()},
    }
    choice = answer["choices"][0]
    choice["message"] |= {"content": None, "tool_calls": [call]}
    choice["finish_reason"] = "tool_calls"


def response(model: str, job: str, asked: int, made: int, cached: int) -> dict[str, Any]:
    return {
        "id": f"resp_{zlib.crc32(job.encode()):08x}",
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "error": None,
        "model": model,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "output": [
            {
                "id": f"msg_{zlib.crc32(job.encode()):08x}",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": answer_text(job, made), "annotations": []}],
            }
        ],
        "usage": {
            "input_tokens": asked,
            "input_tokens_details": {"cached_tokens": min(cached, asked), "cache_write_tokens": 0},
            "output_tokens": made,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": asked + made,
        },
    }


def embeddings(body: dict[str, Any], model: str, job: str, asked: int) -> dict[str, Any]:
    given = body.get("input")
    n = len(given) if isinstance(given, list) and given and not isinstance(given[0], int) else 1
    seed = zlib.crc32(job.encode())
    return {
        "object": "list",
        "model": model,
        "data": [
            {
                "object": "embedding",
                "index": i,
                "embedding": [(seed >> shift & 255) / 255 for shift in (0, 8, 16, 24)],
            }
            for i in range(n)
        ],
        "usage": {"prompt_tokens": asked, "total_tokens": asked},
    }


def message(
    body: dict[str, Any], model: str, job: str, asked: int, made: int, cached: int, written: int = 0
) -> dict[str, Any]:
    cached = min(cached, asked)
    written = min(written, asked - cached)
    return {
        "id": f"msg_{zlib.crc32(job.encode()):08x}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": answer_text(job, made)}],
        "stop_reason": "max_tokens" if ceiling_of(body) and made >= ceiling_of(body) else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": asked - cached - written,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": written,
            "output_tokens": made,
        },
    }


def alter(answer: dict[str, Any], mode: str) -> None:
    """Make of a whole answer what a mode of ALTERED asks for."""
    if mode == "no_usage":
        del answer["usage"]
    if mode.endswith("_bits"):
        field = "prompt_tokens" if "prompt_tokens" in answer["usage"] else "input_tokens"
        answer["usage"][field] = (1 << int(mode[-7:-5])) - 1
    if mode.startswith("told_failure"):
        answer |= {"status": "failed", "error": {"code": "server_error", "message": "The model failed"}}


def nested(answer: dict[str, Any]) -> bytes:
    """The answer with a value that can be read, and is too deep for orjson to write again."""
    return orjson.dumps(answer)[:-1] + b',"deep":' + b"[" * 300 + b"]" * 300 + b"}"


def encoded(value: Any) -> bytes:
    return orjson.dumps(value)
