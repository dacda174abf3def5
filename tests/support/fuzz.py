"""Answers and input lines that no one would write on purpose; the same seed makes the same ones."""

import copy
import gzip
import json
import random
from typing import Any

from tests.support.raw_provider import CLOSED, Last, completion

HOSTILE: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 10**18, 10**30, -(10**25), 1e308, "", "x", "\ud83d", "\x00\x1b[31m", "é" * 50),
    *([], {}, [None], [[[]]], {"a": None}, "9" * 50, "null", [{}], "rate limit", "try again in 24 hours"),
    "insufficient_quota",
]  # fmt: skip
EVENT = {"id": "c", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}], "usage": None}
BODIES: list[Any] = [
    completion("Hi"),
    completion(None, "tool_calls", prompt_tokens_details={"cached_tokens": 3}),
    completion("Hel", "abort"),
    completion("Hel", "length"),
    {"object": "chat.completion", "choices": None, "usage": {"prompt_tokens": 5, "completion_tokens": 0}},
    {"id": "x", "choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
    {"error_code": 18, "error_msg": "Open api qps request limit reached"},
    {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}], "result": None},
    {
        "error": {
            "message": "m",
            "type": "invalid_request_error",
            "param": "max_tokens",
            "code": "unsupported_parameter",
        }
    },
    {"error": {"message": "Rate limit. Please try again in 1.2s.", "code": "rate_limit_exceeded"}},
    {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"@type": "RetryInfo", "retryDelay": "5s"}]}},
    [{"error": {"code": 400, "message": "API key expired.", "status": "INVALID_ARGUMENT"}}],
    {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
    {"detail": [{"loc": ["body", "x"], "msg": "field required", "type": "missing"}]},
    {"choices": [{"error": {"code": 502, "message": "Upstream", "metadata": {"raw": "x", "headers": {}}}}]},
]
STATUSES = [200] * 40 + [201, 204, 206, 302, 400, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 429, 451, 498]
STATUSES += [500, 500, 502, 503, 504, 520, 524, 529, 599, 700, 999]
NAMES = ["retry-after", "retry-after-ms", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"]
NAMES += [
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "ratelimit",
    "x-request-id",
    "date",
    "x-ratelimit-reset",
]
NAMES += ["anthropic-ratelimit-tokens-reset", "content-encoding", "x-ratelimit-limit-tokens", "set-cookie", "location"]
VALUES = [
    "",
    "0",
    "1",
    "-1",
    "1e9",
    "nan",
    "inf",
    "9" * 400,
    "6m0s",
    "soon",
    "Wed, 21 Oct 2026 07:28:00 GMT",
    "2026-11-30T",
]
VALUES += ["gzip", "é", "x" * 9_000, '"default";r=50;t=30', "1.5", "99999999999999999999", "\x01", "1, 2"]


def answer(rng: random.Random) -> bytes:
    """One HTTP answer, or what should have been one."""
    body = _body(rng)
    status = rng.choice(STATUSES)
    headers = {"content-type": rng.choice(["application/json", "text/event-stream", "text/html", "", "a/b; charset=x"])}
    for _ in range(rng.choice([0, 0, 1, 2, 5])):
        headers[rng.choice(NAMES)] = rng.choice(VALUES)
    if rng.random() < 0.05:
        headers |= {f"x-{number}": "v" for number in range(300)}
    length = f"content-length: {len(body)}\r\n"
    match rng.randrange(40):
        case 0:
            return CLOSED
        case 1:
            return Last(rng.randbytes(rng.randrange(200)))
        case 2:
            length = f"content-length: {len(body) + rng.choice([-3, 5, 10**9])}\r\n"
        case 3:
            length = rng.choice(
                ["", "content-length: x\r\n", "content-length: -5\r\n", length + "content-length: 1\r\n"]
            )
        case 4:
            length, body = (
                "transfer-encoding: chunked\r\n",
                b"%x\r\n%s\r\n0\r\n\r\n" % (len(body) + rng.choice([0, 0, 9]), body),
            )
        case 5:
            length += "transfer-encoding: chunked\r\n"
    text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    whole = f"HTTP/1.1 {status} Whatever\r\n{text}{length}\r\n".encode("latin-1", "replace") + body
    return Last(whole[: rng.randrange(len(whole))] if rng.random() < 0.03 else whole)


def _body(rng: random.Random) -> bytes:
    value = _mutated(rng, rng.choice(BODIES), rng.choice([0, 0, 1, 1, 2, 4]))
    match rng.randrange(24):
        case 0:
            events = [_mutated(rng, EVENT, rng.choice([0, 1, 2])) for _ in range(rng.randrange(1, 5))]
            end = rng.choice(["\n\n", "\n", "\r\n\r\n"])
            return "".join(f"data: {json.dumps(event)}{end}" for event in events).encode() + b"data: [DONE]\n\n"
        case 1:
            return json.dumps(value).encode() + b"\ndata: [DONE]\n"
        case 2:
            return json.dumps(value).encode(rng.choice(["utf-16", "utf-32", "utf-8-sig"]))
        case 3:
            return json.dumps(value, ensure_ascii=False).encode("latin-1", "replace")
        case 4:
            return rng.choice([b"[", b'{"a":', b'{"error":{"message":']) * rng.choice([50, 900, 1_100, 50_000])
        case 5:
            return b'{"choices":[{"message":{"content":' + b"[" * 900 + b"]" * 900 + b'},"finish_reason":"stop"}]}'
        case 6:
            return rng.choice([b"", b"null", b"0", b'"x"', b"<html>no</html>", b"upstream error", b"\x00" * 50, b"NaN"])
        case 7:
            return gzip.compress(json.dumps(value).encode())
        case 8:
            return rng.randbytes(rng.randrange(400))
    text = bytearray(json.dumps(value).encode())
    for _ in range(rng.choice([0, 0, 0, 0, 1, 3])):
        text[rng.randrange(len(text))] = rng.randrange(256)
    return bytes(text[: rng.randrange(len(text))] if rng.random() < 0.05 else text)


def line(rng: random.Random, good: dict[str, Any]) -> bytes:
    """One line of an input, made from a good one."""
    value = _mutated(rng, good, rng.choice([0, 1, 1, 1, 2, 3]))
    match rng.randrange(16):
        case 0:
            return rng.randbytes(rng.randrange(300)).replace(b"\n", b"")
        case 1:
            return rng.choice([b"[", b'{"body":']) * rng.choice([10, 900, 1_100, 20_000])
        case 2:
            return json.dumps(value).encode("utf-16").replace(b"\n", b"")
        case 3:
            return (
                json.dumps(value)
                .replace("50", rng.choice(["1e400", "9" * 30, "-0", "NaN", "0.1234567890123456789"]))
                .encode()
            )
    text = bytearray(json.dumps(value).encode())
    for _ in range(rng.choice([0, 0, 0, 1, 3])):
        text[rng.randrange(len(text))] = rng.randrange(11, 256)
    return bytes(text)


def _mutated(rng: random.Random, value: Any, times: int) -> Any:
    """A copy with some of its nodes replaced, removed or doubled."""
    made = copy.deepcopy(value)
    for _ in range(times):
        places = list(_places(made))
        if not places:
            return rng.choice(HOSTILE)
        holder, key = rng.choice(places)
        if rng.random() < 0.2:
            del holder[key]
        elif isinstance(holder, list) and rng.random() < 0.2:
            holder.append(copy.deepcopy(holder[key]))
        elif isinstance(holder, dict) and rng.random() < 0.1:
            holder[rng.choice(["error", "choices", "usage", "__type__", "", "é", "stream", "n", "model"])] = rng.choice(
                HOSTILE
            )
        else:
            holder[key] = copy.deepcopy(rng.choice(HOSTILE))
    return made


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)
