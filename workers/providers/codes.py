"""The error codes that metrics name: a closed list, since each code is a time series for ever."""

import re
from typing import Final

#: Our own codes, for calls without a usable answer.
_OURS: Final = frozenset(
    {"answer_too_large", "bad_body", "bad_key", "bad_url", "broken_answer", "broken_body", "connect", "connect_timeout"}
    | {"connection_lost", "cut_off", "dns", "empty_body", "not_set", "slow_down", "time_limit", "timeout", "tls"}
    | {"unknown_url"}
)

#: Providers' codes that matter for what to do next.
_THEIRS: Final = frozenset(
    {"abort", "api_error", "authentication_error", "billing_error", "budget_exceeded", "content_filter"}
    | {"context_length_exceeded", "insufficient_quota", "internal_error", "invalid_api_key", "invalid_prompt"}
    | {"invalid_request_error", "json_validate_failed", "model_not_found", "not_found_error", "overloaded_error"}
    | {"permission_error", "rate_limit_error", "rate_limit_exceeded", "request_too_large", "resource_unavailable"}
    | {"server_error", "timeout_error", "tool_use_failed", "unavailable_error", "unsupported_parameter"}
)

#: Our code for a status without one.
_STATUS: Final = re.compile(r"http_[1-5]\d\d")


def listed(code: str) -> str:
    """The code if it is listed, else `other`."""
    return code if code in _OURS or code in _THEIRS or _STATUS.fullmatch(code) else "other"
