"""The problems of an input file as OpenAI's batches report them: code, message, line and param.

https://platform.openai.com/docs/api-reference/batch/object: `errors.data`.
"""

import re
from typing import Any, Final

#: How a problem's words begin -> its code and the field that it is about. The first match counts.
_CODES: Final = [
    (re.compile(rf"(?:{words})"), code, param)
    for words, code, param in (
        (
            r"not JSON|not UTF-8|nested too deeply|a number of \d+ digits|must be a JSON object",
            "invalid_json_line",
            None,
        ),
        (r"longer than", "request_too_large", None),
        (r"is empty", "empty_file", None),
        (r"the input file ", "invalid_request", "input_file_id"),
        (r"custom_id is missing", "missing_required_parameter", "custom_id"),
        (r"duplicate custom_id", "duplicate_custom_id", "custom_id"),
        (r"custom_id", "invalid_custom_id", "custom_id"),
        (r"method", "invalid_method", "method"),
        (r"url", "invalid_url", "url"),
        (r"body must be an object: it is missing", "missing_required_parameter", "body"),
        (r"body\.model: ", "model_not_found", "body.model"),
        (r"body\.model must name", "missing_required_parameter", "body.model"),
        (r"body\.model", "invalid_value", "body.model"),
        (r"body: stream must be", "streaming_unsupported", "body.stream"),
        (r"body", "invalid_value", "body"),
        (r"unknown keys", "unknown_parameter", None),
        (r"has [\d.,]+ MB|the request is larger", "request_too_large", "body"),
        (r"can cost up to", "billing_hard_limit_reached", "body"),
    )
]


def problem(line: int, words: str) -> dict[str, Any]:
    """A problem of line number `line`, 0 for the whole file."""
    code, param = next(
        ((code, param) for begins, code, param in _CODES if begins.match(words)), ("invalid_request", None)
    )
    return {"code": code, "message": words, "line": line or None, "param": param}
