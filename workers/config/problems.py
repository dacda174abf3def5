"""What is wrong with a configuration file: the line, the key, what would be right, what was found.

Values that may be secrets are never repeated, and neither are long strings: an API key pasted into the wrong place must
not end up in a log.
"""

import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

#: Keys whose value may be or contain a secret.
_PRIVATE = frozenset({"api_key", "base_url", "redis_url", "broker_url", "storage", "key", "secret", "url"})

#: Longer strings are described by their length: API keys are longer than this. Characters.
_SHOWN = 24

#: A configuration has a few kilobytes; a larger file was named by mistake. Bytes.
_LARGEST = 4 << 20

#: A key that TOML takes without quotes.
_BARE = re.compile(r"[A-Za-z0-9_-]+")
#: The beginning of `key = value`, with a dotted or quoted key.
_SET = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
#: A table's header, but not that of an array of tables.
_HEADER = re.compile(r"\s*\[(?!\[)(.+)\]\s*(?:#.*)?")

#: Where something is in the file: the keys and list positions that lead to it.
Place = tuple[str | int, ...]


class SettingsError(Exception):
    """The configuration is wrong. `problems` lists everything, one line each, safe to show."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


def parse(file: Path, shown: str) -> tuple[str, dict[str, Any]]:
    """The file's text and its tables. `shown` is the file's name in messages. Raises SettingsError if it isn't TOML."""
    try:
        with file.open("rb") as source:
            raw = source.read(_LARGEST + 1)
    except FileNotFoundError:
        raise SettingsError([f"{shown}: there is no such file"]) from None
    except IsADirectoryError:
        raise SettingsError([f"{shown}: is a folder; name the file"]) from None
    except OSError as exc:
        raise SettingsError([f"{shown}: cannot be read: {exc.strerror}"]) from None
    if len(raw) > _LARGEST:
        raise SettingsError([f"{shown}: is larger than {_LARGEST >> 20} MiB: not a configuration file"])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise SettingsError([f"{shown}:{line}: is not UTF-8 text; save it as UTF-8"]) from None
    try:
        return text, tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as exc:
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(exc), re.DOTALL)
        words, row, column = found.groups() if found else (str(exc), None, None)
        if words == "Cannot overwrite a value":
            words = "the key is set twice"
        place = f"{shown}:{row}:{column}" if row else f"{shown}:{text.count(chr(10)) + 1}"
        raise SettingsError([f"{place}: is not valid TOML: {words}"]) from None
    except RecursionError:
        raise SettingsError([f"{shown}: is nested too deeply"]) from None


def problems(error: ValidationError, root: type[BaseModel], shown: str, text: str) -> list[str]:
    """Every problem that pydantic found, in file order."""
    lines = _lines(text)
    found: dict[str, int] = {}
    for each in error.errors(include_url=False):
        if each["type"] == "default_factory_not_called":
            continue  # a consequence of another problem, which is reported
        place = _place(each["loc"])
        words = _words(each["type"], each["msg"], each.get("ctx", {}), place, each["input"], root)
        line = _line(lines, place)
        found.setdefault(f"{shown}{f':{line}' if line else ''}: {_dotted(place)}: {words}", line)
    return sorted(found, key=lambda each: found[each])


def _words(kind: str, message: str, context: Mapping[str, Any], place: Place, value: Any, root: type[BaseModel]) -> str:
    key = str(place[-1])
    private = bool(_PRIVATE & set(map(str, place)))
    if kind == "extra_forbidden":
        return _unknown(key, place, value, root)
    if kind == "missing":
        return "is missing"
    if kind == "missing_key":
        return str(context.get("words", message))
    if kind == "too_short":
        return "must have at least one entry"
    if kind == "string_pattern_mismatch":
        right = "must be made of letters, digits and . _ -"
    elif kind in {"value_error", "inconsistent"}:
        right = str(context.get("error") or context.get("words") or message).removeprefix("Value error, ")
    elif kind == "literal_error":
        # Pydantic's own enumeration: 'day', 'month' or 'total'.
        right = "must be one of " + re.sub(r"'([^']*)'", r'"\1"', str(context["expected"])).replace(" or ", ", ")
    elif kind.startswith("model_") or kind == "dict_type":
        right = "must be a table"
    elif kind in {"list_type", "tuple_type"}:
        right = "must be a list"
    elif kind.startswith("bool_"):
        right = "must be true or false"
    elif kind.startswith(("string_", "path_")):
        right = "must be a string in quotes"
    else:
        right = message[:1].lower() + message[1:]
    return right if private or value is None or kind == "string_too_short" else f"{right}, got {_value(value)}"


def _unknown(key: str, place: Place, value: Any, root: type[BaseModel]) -> str:
    model = _model_at(root, place[:-1])
    known = sorted(field.alias or name for name, field in model.model_fields.items()) if model else []
    if isinstance(value, Mapping) and "models" in place[:-1] and "providers" in place:
        name = f"{place[-2]}.{key}"
        dotted = _dotted((*place[:-2], name))
        return f"unknown key; put a name with dots in quotes: [{dotted}]"
    near = get_close_matches(key, known, 1, 0.6)
    if near:
        return f'unknown key; did you mean "{near[0]}"?'
    return f"unknown key; there are: {', '.join(known)}"


def _model_at(annotation: Any, place: Place) -> type[BaseModel] | None:
    """The model of the table at `place`, found through the types of its fields; None if there is no table there."""
    for part in place:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            fields = {field.alias or name: field for name, field in annotation.model_fields.items()}
            annotation = fields[str(part)].annotation if str(part) in fields else None
        elif get_origin(annotation) in {dict, list}:
            annotation = get_args(annotation)[-1]
        else:
            return None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if len(value) > _SHOWN or not value.isprintable():
            return f"a string of {len(value)} characters"
        return f'"{value}"'
    if isinstance(value, int | float | Decimal):
        return str(value)[: _SHOWN * 2]
    if isinstance(value, Mapping):
        return "a table"
    return "a list" if isinstance(value, list | tuple) else "something else"


def _place(location: Place) -> Place:
    """Pydantic's location without the marks that it adds for dict keys."""
    return tuple(part for part in location if part != "[key]")


def _dotted(place: Place) -> str:
    dotted = ""
    for part in place:
        if isinstance(part, int):
            dotted += f"[{part + 1}]"
        else:
            name = part if _BARE.fullmatch(part) else '"' + part.replace('"', '\\"') + '"'
            dotted += f".{name}" if dotted else name
    return dotted


def _lines(text: str) -> dict[Place, int]:
    """The line number, from 1, of each key and table header that begins a line."""
    found: dict[Place, int] = {}
    table: Place = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.fullmatch(line):
            table = _key(header[1])
            found.setdefault(table, number)
        elif setting := _SET.match(line):
            found.setdefault((*table, *_key(setting[1])), number)
    return found


def _key(written: str) -> Place:
    """The parts of a dotted key, as the TOML parser reads them."""
    try:
        value: Any = tomllib.loads(f"{written} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    parts: list[str] = []
    while isinstance(value, dict):
        name = next(iter(value))
        parts.append(name)
        value = value[name]
    return tuple(parts)


def _line(lines: Mapping[Place, int], place: Place) -> int:
    """The line of the key, else of the nearest table around it; 0 if unknown."""
    for length in range(len(place), 0, -1):
        if place[:length] in lines:
            return lines[place[:length]]
    return 0
