"""Which of the two names for the ceiling of a chat completion a model takes, learned from what it refuses.

`max_tokens` and `max_completion_tokens` mean the same to a job. Models that reason refuse the first, some servers the
second, and the name of a deployment tells neither. A refusal names the field; the call is made again with the other.
"""

import re
from http import HTTPStatus
from typing import Any, Final

from workers.providers.error_body import Complaint

#: The two names; each stands for the other.
OTHER: Final = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}

_NAMES: Final = re.compile(r"\bmax_(?:completion_)?tokens\b")
# "Unsupported parameter", "Unrecognized request argument", "Extra inputs are not permitted", "is not supported".
_NOT_TAKEN: Final = re.compile(
    r"unsupported (?:parameter|field|argument)|unrecogni[sz]ed|unknown|unexpected|extra (?:inputs|fields)"
    r"|not (?:supported|permitted|allowed)|is unsupported",
    re.IGNORECASE,
)


def refused_ceiling(status: int, complaint: Complaint) -> str:
    """The name to use instead, '' if the refusal is not about the name of the ceiling."""
    if status not in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
        return ""
    if complaint.code != "unsupported_parameter" and not _NOT_TAKEN.search(complaint.words):
        return ""
    named = _NAMES.search(complaint.words)
    refused = complaint.param.rpartition(".")[2] or (named[0] if named else "")
    return OTHER.get(refused, "")


def with_ceiling_in(body: dict[str, Any], field: str) -> dict[str, Any]:
    """`body` with its ceiling under `field`, unchanged if it has none under the other name."""
    other = OTHER[field]
    if body.get(other) is None:
        return body
    kept = {name: value for name, value in body.items() if name != other}
    return {**kept, field: kept.get(field) or body[other]}
