"""Answers to a JSON schema, and answers that are not what was asked for.

Each job has a place between 0 and 1 by its hash and the seed, and the parts of all flaws lie side by side from 0 on: a
job has at most one flaw, and a test knows which.
"""

import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson

from tests.simulator.config import Config, Flaw

_VALUES = {"integer": 7, "number": 7.5, "boolean": True, "array": [], "object": {}, "null": None}


def flaw_of(flaws: Sequence[Flaw], job: str, seed: int) -> Flaw | None:
    """The flaw of a job's answers, None if they are right."""
    place = zlib.crc32(f"{seed}:flaw:{job}".encode()) / 2**32
    end = 0.0
    for flaw in flaws:
        end += flaw.part
        if place < end:
            return flaw
    return None


def spoil(config: Config, given: Counter[str], answer: dict[str, Any], body: dict[str, Any], job: str) -> str:
    """Make the answer match the schema of its request, or spoil it. Returns how; `given` counts each job's answers."""
    schema = _schema(body)
    if schema is not None:
        _set_text(answer, orjson.dumps(example(schema, job)).decode())
    flaw = flaw_of(config.flaws, job, config.seed)
    if flaw is None or (flaw.model and flaw.model != body.get("model")):
        return ""
    given[job] += 1
    ceiling = body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens") or 0
    if (flaw.answers and given[job] > flaw.answers) or (flaw.ceiling and ceiling >= flaw.ceiling):
        return ""
    _SPOILERS[flaw.kind](answer)
    return flaw.kind


def example(schema: Any, job: str) -> Any:
    """A value that matches a simple schema."""
    kind = schema.get("type")
    if kind != "object":
        return schema["enum"][0] if "enum" in schema else _VALUES.get(kind, f"of {job}")
    return {name: example(each, job) for name, each in schema.get("properties", {}).items()}


def _schema(body: dict[str, Any]) -> Any:
    match body:
        case {"response_format": {"json_schema": {"schema": schema}}} | {"text": {"format": {"schema": schema}}}:
            return schema
        case {"output_config": {"format": {"schema": schema}}}:
            return schema
    return None


def _set_text(answer: dict[str, Any], text: str) -> None:
    match answer:
        case {"choices": choices}:
            for choice in choices:
                choice["message"]["content"] = text
        case {"output": [{"content": [part, *_]}, *_]} | {"content": [part, *_]}:
            part["text"] = text


def _invalid(answer: dict[str, Any]) -> None:
    _set_text(answer, '{"total": "seven"}')


def _truncated(answer: dict[str, Any]) -> None:
    _set_text(answer, '{"total": 7, "wor')
    _end(answer, "length", "max_tokens")
    if "output" in answer:
        answer |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}


def _refused(answer: dict[str, Any]) -> None:
    words = "I can't help with that."
    match answer:
        case {"choices": choices}:
            for choice in choices:
                choice["message"] |= {"content": None, "refusal": words}
        case {"output": [{"content": _}, *_]}:
            answer["output"][0]["content"] = [{"type": "refusal", "refusal": words}]
        case _:
            answer |= {"content": [], "stop_reason": "refusal"}


def _filtered(answer: dict[str, Any]) -> None:
    _set_text(answer, "")
    _end(answer, "content_filter", "refusal")
    if "output" in answer:
        answer |= {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}


def _empty(answer: dict[str, Any]) -> None:
    _set_text(answer, "")


def _end(answer: dict[str, Any], of_chat: str, of_message: str) -> None:
    for choice in answer.get("choices", ()):
        choice["finish_reason"] = of_chat
    if "stop_reason" in answer:
        answer["stop_reason"] = of_message


_SPOILERS = {
    "invalid": _invalid,
    "truncated": _truncated,
    "refused": _refused,
    "filtered": _filtered,
    "empty": _empty,
}
