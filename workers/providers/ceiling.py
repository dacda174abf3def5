"""Which name a model takes for the ceiling of a chat completion, learned from its refusals.

`max_tokens` and `max_completion_tokens` mean the same to a job. Reasoning models refuse the first, some servers the
second, and a deployment's name doesn't say which. A refusal names the field, and the call is repeated with the other.
"""

import re
from http import HTTPStatus
from typing import Any, Final

from workers.providers.error_body import ErrorBody

#: Each name and the other one.
OTHER: Final = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}

# Either name, in a message.
_NAMES: Final = re.compile(r"\bmax_(?:completion_)?tokens\b")
# "Unsupported parameter", "Unrecognized request argument", "Extra inputs are not permitted", "is not supported".
_NOT_TAKEN: Final = re.compile(
    r"unsupported (?:parameter|field|argument)|unrecogni[sz]ed|unknown|unexpected|extra (?:inputs|fields)"
    r"|not (?:supported|permitted|allowed)|is unsupported",
    re.IGNORECASE,
)


def refused_ceiling(status: int, error_body: ErrorBody) -> str:
    """The name to use instead, '' if the refusal isn't about the ceiling's name."""
    if status not in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
        return ""
    if error_body.code != "unsupported_parameter" and not _NOT_TAKEN.search(error_body.words):
        return ""
    named = _NAMES.search(error_body.words)
    refused = error_body.param.rpartition(".")[2] or (named[0] if named else "")
    return OTHER.get(refused, "")


def with_ceiling_in(body: dict[str, Any], field: str) -> dict[str, Any]:
    """`body` with its ceiling under `field`. Unchanged if it has none under the other name."""
    other = OTHER[field]
    if body.get(other) is None:
        return body
    kept = {name: value for name, value in body.items() if name != other}
    return {**kept, field: kept.get(field) or body[other]}
