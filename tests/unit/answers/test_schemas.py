"""Hostile schemas and answers: none makes a check run long, recurse without end or fetch anything."""

import time
from typing import Any

import pytest

from tasks.answers import schemas
from tasks.answers.patterns import Uncheckable

#: Seconds of CPU: far below what any of these would take unbounded.
BOUND = 5.0


def nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = {"a": found}
    return found


def twice(part: Any) -> dict[str, Any]:
    return {"allOf": [part, part]}


#: The pattern of pydantic's Decimal.
LOOK = {"type": "string", "pattern": "^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$"}

DOUBLING = {
    "$defs": {f"d{i}": twice({"$ref": f"#/$defs/d{i + 1}"}) for i in range(40)} | {"d40": True},
    "$ref": "#/$defs/d0",
}


@pytest.mark.parametrize(
    ("schema", "value", "why"),
    [
        pytest.param({"$ref": "#"}, 1, "leads to itself", id="a reference to itself"),
        pytest.param({"$ref": "http://127.0.0.1:9/s"}, 1, "leads nowhere", id="a remote reference"),
        pytest.param({"$ref": "file:///etc/passwd"}, 1, "leads nowhere", id="a file"),
        pytest.param(DOUBLING, 1, "took more than", id="doubling"),
        pytest.param(twice({"properties": {"a": {"$ref": "#"}}}), nested(40), "took more than", id="with depth"),
        pytest.param({"pattern": "((a{1,99}){1,99}){1,99}"}, "a", "repeats", id="a large pattern"),
        pytest.param({"pattern": "a" * 2_000}, "a", "more than 1,000", id="a long pattern"),
        pytest.param({"pattern": "a(?=b)"}, "a", "look-around", id="an unsupported pattern"),
        pytest.param({"pattern": "a"}, "a" * 20_000, "more than 10,000", id="a long string for a pattern"),
        pytest.param({"description": "x" * 100_000}, 1, "larger than 64 KB", id="a large schema"),
        pytest.param(nested(400), 1, "too deeply", id="a deep schema"),
        pytest.param({"properties": 5}, {}, "the schema itself is not valid: $.properties", id="an invalid schema"),
        pytest.param(5, 1, "not an object", id="a number"),
        pytest.param(
            {"patternProperties": {"a": True}, "unevaluatedProperties": False}, {"a": 1}, "not supported", id="rare"
        ),
    ],
)
def test_what_cannot_be_checked_is_told(schema: Any, value: Any, why: str) -> None:
    began = time.thread_time()
    with pytest.raises(Uncheckable) as told:
        schemas.problem(schema, value)
    assert why in str(told.value)
    assert time.thread_time() - began < BOUND


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        pytest.param({"pattern": "^(a+)+$"}, "a" * 5_000 + "!", "does not match", id="backtracking"),
        pytest.param(
            {"patternProperties": {"^(a+)+$": True}, "additionalProperties": False},
            {"a" * 5_000 + "!": 1},
            "Additional properties",
            id="backtracking over names",
        ),
        pytest.param({"patternProperties": {"^x": {"type": "integer"}}}, {"x1": "no"}, "$.x1:", id="by pattern"),
        pytest.param({"additionalProperties": {"type": "integer"}}, {"y": "no"}, "$.y:", id="additional"),
        pytest.param({"uniqueItems": True}, [{"a": 1}, {"a": 1.0}], "equal items", id="equal numbers"),
        pytest.param({"uniqueItems": True}, [{"a": i} for i in range(50_000)], "", id="many unique items"),
        pytest.param({"uniqueItems": True}, [1, True], "", id="1 and true"),
        pytest.param({"properties": {"a": {"$ref": "#"}}}, nested(40), "", id="recursive and fine"),
        pytest.param(
            {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 3, "exclusiveMinimum": True},
            3,
            "less than or equal",
            id="an older draft",
        ),
        pytest.param(True, 1, "", id="anything"),
        pytest.param({"enum": ["x" * 1_000]}, 1, "…", id="long words are cut"),
    ],
)
def test_hostile_ones_are_checked_in_time(schema: Any, value: Any, words: str) -> None:
    began = time.thread_time()
    found = schemas.problem(schema, value)
    assert (words in found) if words else found == ""
    assert len(found) <= schemas.MAX_WORDS
    assert time.thread_time() - began < BOUND


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        pytest.param(
            {"a": LOOK, "b": {"type": "integer"}}, {"a": "1", "b": "x"}, "$.b: 'x' is not", id="another field"
        ),
        pytest.param({"a": {"anyOf": [LOOK, {"type": "null"}]}}, {"a": 5}, "$.a: 5 is not valid", id="no string"),
    ],
)
def test_a_pattern_that_cannot_be_matched_leaves_the_rest_checked(schema: Any, value: Any, words: str) -> None:
    assert words in schemas.problem({"type": "object", "properties": schema}, value)


@pytest.mark.parametrize("schema", [{"not": LOOK}, {"oneOf": [LOOK, {"minLength": 1}]}, {"if": LOOK, "then": False}])
def test_a_problem_that_such_a_pattern_may_have_caused_does_not_count(schema: Any) -> None:
    with pytest.raises(Uncheckable, match="look-around"):
        schemas.problem(schema, "1")


def test_schemas_are_remembered_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "MAX_KNOWN", 10)
    for number in range(50):
        schemas.problem({"const": number}, number)
        assert len(schemas._known) <= 10
