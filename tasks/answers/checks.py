"""The check of one answer: pure functions of its line and its body.

    valid      it is what the line asked for, as far as that can be checked
    truncated  it ended because it was not allowed to be longer
    refused    the model refused
    filtered   the provider's content filter withheld it, or a part of it
    empty      there is nothing in it
    invalid    it is not JSON, or doesn't match the line's schema or the arguments of a tool
    unchecked  it could not be checked: the schema itself is not valid, or too large

What comes first in this list counts, except that an answer is `valid` only if nothing else is true.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from tasks.answers import contents, schemas, wanted
from tasks.answers.contents import Contents, ToolCall
from tasks.answers.patterns import Uncheckable
from tasks.answers.wanted import Wanted
from workers.providers.endpoints import EMBEDDINGS
from workers.providers.truncation import met_ceiling

Result = Literal["valid", "truncated", "refused", "filtered", "empty", "invalid", "unchecked"]

#: Results of answers that are not what was asked for, in the order in which they are shown.
NOT_VALID: Final[tuple[Result, ...]] = ("invalid", "truncated", "refused", "filtered", "empty")


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of an answer's check. `reason`: what is wrong, in words that may quote the answer."""

    result: Result
    reason: str = ""

    @property
    def is_right(self) -> bool:
        """Whether nothing is known to be wrong."""
        return self.result in {"valid", "unchecked"}

    def shown(self) -> dict[str, str]:
        """It, as a result line contains it."""
        return {"result": self.result, "reason": self.reason} if self.reason else {"result": self.result}


VALID: Final = Checked("valid")


def check(url: str, request: Mapping[str, Any], body: Mapping[str, Any]) -> Checked:
    """Check an answer against the line's own request."""
    if url == EMBEDDINGS:
        return VALID
    if met_ceiling(url, body):
        return Checked("truncated", "the answer met its ceiling of output tokens")
    found = contents.of_answer(url, body)
    for each in found:
        if each.refusal is not None:
            return Checked("refused", schemas.cut(each.refusal))
    if any(each.filtered for each in found):
        return Checked("filtered", "the provider's content filter withheld the answer, or a part of it")
    if not found or any(each.empty for each in found):
        return Checked("empty", "the answer has no text and calls no tool")
    asked = wanted.of_line(url, request)
    if asked is None:
        return VALID
    try:
        problems = [words for each in found if (words := _problem(each, asked))]
    except Uncheckable as why:
        return Checked("unchecked", str(why))
    return Checked("invalid", problems[0]) if problems else VALID


def _problem(found: Contents, asked: Wanted) -> str:
    """What is wrong with an answer; '' if nothing is."""
    for call in found.calls if asked.tools else ():
        if words := _problem_of_call(call, asked.tools):
            return words
    if not asked.json or (found.calls and not found.text.strip()):
        return ""
    try:
        value = orjson.loads(found.text)
    except orjson.JSONDecodeError as exc:
        return f"the answer is not JSON: {exc.msg} (character {exc.pos + 1:,})"
    words = schemas.problem(asked.schema, value) if asked.schema is not wanted.ANY else ""
    return words and f"the answer doesn't match its schema: {words}"


def _problem_of_call(call: ToolCall, tools: Mapping[str, Any]) -> str:
    if call.name not in tools:
        return f"it calls a tool that the line doesn't have: {call.name[:100]!r}"
    value = call.arguments
    if isinstance(value, str):
        try:
            value = orjson.loads(value or "{}")
        except orjson.JSONDecodeError as exc:
            return f"the arguments of tool {call.name!r:.100} are not JSON: {exc.msg}"
    schema = tools[call.name]
    words = schemas.problem(schema, value) if schema is not wanted.ANY else ""
    return words and f"the arguments of tool {call.name!r:.100} don't match its schema: {words}"
