"""Settings that someone has changed while workers run (`overnight set`), over those of overnight.toml.

A change remembers what the file said when it was made. It holds until the file says something else.
"""

import copy
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from workers.config.problems import SettingsError

#: What can be changed at each place of the file; `*` is any name.
LIMITS: Final = ("rpm", "tpm", "itpm", "otpm", "rpd", "tpd", "concurrency")
SETTABLE: Final[Mapping[tuple[str, ...], tuple[str, ...]]] = {
    (): ("budget_usd",),
    ("providers", "*"): LIMITS,
    ("providers", "*", "models", "*"): LIMITS,
    ("workflows", "*"): ("budget_usd", "concurrency", "weight", "max_attempts"),
}

Value = int | float | str | bool | None

Path = tuple[str, ...]
"""Where a setting is in the file: its tables' names, and its key."""


@dataclass(frozen=True, slots=True)
class Change:
    """One changed setting. `file`: what overnight.toml said then, None if nothing; `at`: seconds since the epoch."""

    path: Path
    value: Value
    file: Value
    at: float

    @property
    def name(self) -> str:
        """The setting as TOML writes it."""
        return ".".join(each if each.replace("_", "").replace("-", "").isalnum() else f'"{each}"' for each in self.path)

    @property
    def field(self) -> bytes:
        """Its name in Redis."""
        return orjson.dumps(self.path)

    def encode(self) -> bytes:
        """It, as Redis has it."""
        return orjson.dumps({"value": self.value, "file": self.file, "at": self.at})


def decode(raw: Mapping[bytes, bytes]) -> list[Change]:
    """The changes that Redis has, the oldest first. Those that cannot be read are left out: others may write there."""
    found = []
    for field, each in raw.items():
        try:
            path, known = orjson.loads(field), orjson.loads(each)
            change = Change(tuple(map(str, path)), known["value"], known["file"], float(known["at"]))
            if may_change(change.path):
                found.append(change)
        except (ValueError, TypeError, KeyError):
            continue
    return sorted(found, key=lambda change: change.at)


def may_change(path: Path) -> bool:
    """Whether a setting can be changed while workers run."""
    return any(
        path[-1:] and path[-1] in keys and len(path) == len(place) + 1 and _matches(place, path)
        for place, keys in SETTABLE.items()
    )


def _matches(place: Path, path: Path) -> bool:
    return all(wanted in ("*", name) for wanted, name in zip(place, path, strict=False))


def parse(words: str) -> tuple[Path, Value]:
    """Read `KEY = VALUE` as TOML has it. Raises SettingsError if it is no setting that can be changed."""
    try:
        found: Any = tomllib.loads(words)
    except tomllib.TOMLDecodeError as exc:
        raise SettingsError([f"{words}: not KEY=VALUE as overnight.toml has it: {exc}"]) from None
    path: list[str] = []
    while isinstance(found, dict) and len(found) == 1:
        [(key, found)] = found.items()
        path.append(key)
    if isinstance(found, dict | list) or not may_change(tuple(path)):
        raise SettingsError([f"{words}: cannot be changed while workers run. These can: {'; '.join(_settable())}"])
    return tuple(path), found


def path_of(words: str) -> Path:
    """Read the KEY of a setting. Raises SettingsError if that cannot be changed."""
    return parse(f"{words} = 0")[0]


def _settable() -> list[str]:
    return [".".join([*place, f"({'|'.join(keys)})"]).replace("*", "NAME") for place, keys in SETTABLE.items()]


def in_file(data: Mapping[str, Any], path: Path) -> Value:
    """What the file says at `path`; None if nothing. Raises SettingsError if it has no such table."""
    found: Any = data
    for index, name in enumerate(path[:-1]):
        found = found.get(name) if isinstance(found, dict) else None
        if found is None and path[index - 1 : index] == ("models",) and path[0] == "providers":
            return None  # a model without a table of its own
        if found is None and index:
            raise SettingsError([f"overnight.toml has no table [{'.'.join(path[: index + 1])}]"])
        if found is None:
            found = {}
    value: Value = found.get(path[-1])
    return value


def applied(data: dict[str, Any], changes: Sequence[Change]) -> dict[str, Any]:
    """The file's tables with the changes that still hold."""
    changed = copy.deepcopy(data)
    for change in holding(data, changes):
        table = changed
        for name in change.path[:-1]:
            table = table.setdefault(name, {})
        table[change.path[-1]] = change.value
    return changed


def holding(data: Mapping[str, Any], changes: Sequence[Change]) -> list[Change]:
    """The changes that still hold: the file says what it said then."""
    found = []
    for change in changes:
        try:
            if in_file(data, change.path) == change.file:
                found.append(change)
        except SettingsError:
            continue  # its table is gone
    return found
