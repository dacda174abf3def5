"""Errors in answers with status 200: vendors' error envelopes, refusals, models that were cut off.

Each is treated like the HTTP status that it should have had:

| answer                                             | vendor                     | status           |
|----------------------------------------------------|----------------------------|------------------|
| `base_resp.status_code`, `status_msg`              | MiniMax                    | by its code      |
| `error_code`, `error_msg`                          | Baidu                      | by its code      |
| `success: false`, `errors: [{code, message}]`      | Cloudflare                 | 500, 401, 429    |
| no choices, but a usage without output             | Gemini and gateways        | 400, its content |
| a choice with `finish_reason` abort, error, …      | vLLM, SGLang, DeepSeek, …  | 500              |

Codes: https://platform.minimax.io/docs/api-reference/errorcode,
https://cloud.baidu.com/doc/WENXINWORKSHOP/s/tlmyncueh, https://developers.cloudflare.com/workers-ai/platform/errors/
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


def _by_code(codes: Mapping[int, tuple[int, ...]]) -> dict[int, int]:
    return {code: status for status, found in codes.items() for code in found}


#: MiniMax's codes by the status that they should have had; others count as 500.
_MINIMAX: Final = _by_code({
    400: (1026, 1027, 1042, 2013),
    401: (1004, 2049),
    402: (1008, 2056),
    403: (2061,),
    429: (1002, 1039, 1041, 2045),
    504: (1001,),
})  # fmt: skip

#: Baidu's codes, likewise.
_BAIDU: Final = _by_code({
    400: (3, 336001, 336002, 336003, 336006, 336007, 336103, 336104),
    401: (13, 14, 100, 110, 111),
    402: (17, 19),
    403: (6,),
    429: (4, 18, 336501, 336502, 336503, 336504, 336505),
    503: (2, 336100),
})  # fmt: skip

#: Cloudflare's codes, likewise.
_CLOUDFLARE: Final = _by_code({400: (5004,), 401: (10000,), 404: (5007,), 429: (3036,), 503: (3040,)})

#: The finish_reasons of a choice that was cut off: the next attempt may bring an answer. vLLM and SGLang say `abort`
#: when they shut down, DeepSeek the last one (https://api-docs.deepseek.com/api/create-chat-completion).
CUT_OFF: Final = frozenset({"abort", "aborted", "error", "cancelled", "insufficient_system_resource"})


@dataclass(frozen=True, slots=True)
class Envelope:
    """An error within an answer: its code, the vendor's words, and the status that it should have had."""

    code: str
    words: str
    status: int


def enveloped_error(body: Mapping[str, Any]) -> Envelope | None:
    """The error in an answer with status 200, None if it has none of these."""
    return _vendors(body) or _cut_off(body) or _withheld(body)


def _vendors(body: Mapping[str, Any]) -> Envelope | None:
    match body:
        case {"base_resp": {"status_code": int(code), **more}} if code:
            return Envelope(f"base_resp_{int(code)}", _text(more.get("status_msg")), _MINIMAX.get(code, 500))
        case {"error_code": int(code), **more} if code:
            return Envelope(f"error_code_{int(code)}", _text(more.get("error_msg")), _BAIDU.get(code, 500))
        case {"success": False, "errors": [{"code": int(code), **more}, *_]}:
            return Envelope(f"errors_{int(code)}", _text(more.get("message")), _CLOUDFLARE.get(code, 500))
    return None


def _cut_off(body: Mapping[str, Any]) -> Envelope | None:
    reason = cut_off(body)
    if reason is None:
        return None
    return Envelope(reason, f"the provider broke the answer off (finish_reason {reason})", 500)


def cut_off(body: Mapping[str, Any]) -> str | None:
    """The finish_reason of a choice that was cut off, None if none was."""
    choices = body.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        reason = choice.get("finish_reason") if isinstance(choice, dict) else None
        if isinstance(reason, str) and reason in CUT_OFF:
            return reason
    return None


def _withheld(body: Mapping[str, Any]) -> Envelope | None:
    """A chat completion with input tokens, but without output and choices: a content filter withheld the answer."""
    usage = body.get("usage")
    if "choices" not in body or body["choices"] or not isinstance(usage, dict):
        return None
    if not usage.get("prompt_tokens") or usage.get("completion_tokens"):
        return None
    return Envelope("content_filter", "the provider read the prompt and withheld the answer, for its content", 400)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
