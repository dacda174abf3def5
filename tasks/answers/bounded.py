"""jsonschema's validators, bounded: no schema and no answer makes a check run long, recurse too deep or fetch anything.

`jsonschema` matches patterns with backtracking, compares all pairs of unique items, and follows references to other
documents over the network. Each of these is replaced here, and every keyword counts against the time of its check.
"""

import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend, validator_for
from jsonschema_specifications import REGISTRY as SPECIFICATIONS
from referencing.exceptions import Unresolvable

from tasks.answers.patterns import Uncheckable, matches

#: Seconds of CPU that one check may take.
MAX_SECONDS = 0.25

#: Keywords between two looks at the clock.
_LOOK_EVERY: Final = 64

#: Keywords that may report a problem only because a pattern within them was left out.
_DOUBTFUL: Final = frozenset({"oneOf", "not", "then", "else", "contains"})

Keyword = Callable[[Any, Any, Any, Any], Any]


class _Left(threading.local):
    """What a check has left in this thread: keywords until the next look at the clock, and until when (CPU, s).

    `skipped`: why a pattern could not be matched.
    """

    keywords = 0
    until = 0.0
    skipped = ""


_left = _Left()


def first_problem(schema: Any, value: Any) -> ValidationError | None:
    """The first problem of `value`, None if it is valid. Raises Uncheckable if it can't find out.

    A pattern that cannot be matched is left out: only a problem that this cannot have caused counts.
    """
    _left.keywords, _left.until, _left.skipped = _LOOK_EVERY, time.thread_time() + MAX_SECONDS, ""
    try:
        validator = _class_of(validator_for(schema, default=Draft202012Validator))(schema, registry=SPECIFICATIONS)
        found = next(validator.iter_errors(value), None)
    except Uncheckable:
        raise
    except RecursionError:
        raise Uncheckable("the schema or the answer is nested too deeply, or a reference leads to itself") from None
    except Unresolvable as missing:
        raise Uncheckable(f"a reference leads nowhere within the schema: {str(missing.ref)[:100]!r}") from None
    except Exception as error:  # noqa: BLE001 - a library's own failure on a strange schema
        raise Uncheckable(f"the schema cannot be used: {type(error).__name__}") from None
    if _left.skipped and (found is None or _is_doubtful(found)):
        raise Uncheckable(_left.skipped)
    return found


def _is_doubtful(problem: ValidationError) -> bool:
    """Whether a pattern that was left out may have caused it. The path of a schema that is `false` is unknown."""
    return problem.validator is None or bool(_DOUBTFUL.intersection(problem.absolute_schema_path))


def metaschema_of(schema: Any) -> Any:
    """The schema that `schema` itself must match."""
    return validator_for(schema, default=Draft202012Validator).META_SCHEMA


@cache
def _class_of(validator: Any) -> Any:
    replaced = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
        "unevaluatedProperties": _unevaluated(validator.VALIDATORS.get("unevaluatedProperties")),
    }
    keywords = {name: replaced.get(name) or found for name, found in validator.VALIDATORS.items()}
    return extend(validator, {name: _counted(found) for name, found in keywords.items()})


def _counted(keyword: Keyword) -> Keyword:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        _left.keywords -= 1
        if _left.keywords <= 0:
            _left.keywords = _LOOK_EVERY
            if time.thread_time() > _left.until:
                raise Uncheckable(f"the check took more than {MAX_SECONDS:g} s")
        return keyword(validator, value, instance, schema)

    return counted


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    del schema
    if not validator.is_type(instance, "string"):
        return
    try:
        fits = matches(pattern, instance)
    except Uncheckable as why:
        _left.skipped = str(why)
        return
    if not fits:
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    del schema
    if validator.is_type(instance, "object"):
        for pattern, subschema in patterns.items():
            for name, value in instance.items():
                if matches(pattern, name):
                    yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extras = [name for name in instance if name not in named and not any(matches(each, name) for each in patterns)]
    if validator.is_type(allowed, "object"):
        for name in extras:
            yield from validator.descend(instance[name], allowed, path=name)
    elif not allowed and extras:
        yield ValidationError(f"Additional properties are not allowed: {', '.join(map(repr, extras[:3]))}")


def _unevaluated(keyword: Keyword | None) -> Keyword | None:
    def unevaluated(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        if "patternProperties" in orjson.dumps(schema).decode():
            raise Uncheckable("unevaluatedProperties beside patternProperties is not supported")
        return keyword(validator, value, instance, schema) if keyword else None

    return unevaluated if keyword else None


def _unique_items(validator: Any, unique: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    del schema
    if unique and validator.is_type(instance, "array"):
        seen = {orjson.dumps(_comparable(each), option=orjson.OPT_SORT_KEYS) for each in instance}
        if len(seen) < len(instance):
            yield ValidationError("an array has equal items")


def _comparable(value: Any) -> Any:
    """The value with 1.0 as 1, which JSON schema takes as equal."""
    match value:
        case float() if value.is_integer():
            return int(value) if abs(value) < 2**53 else value
        case dict():
            return {name: _comparable(each) for name, each in value.items()}
        case list():
            return [_comparable(each) for each in value]
    return value
