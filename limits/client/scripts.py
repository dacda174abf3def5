"""A Lua script, and a typed call of it.

A script is a file in a package, with a header that gives purpose, guarantee, KEYS, ARGV and returns. A line
`--@include limits/lua/lib/settle.lua` is replaced by that file, once in a script. So each fragment exists once, and a
script of another package (`tasks/jobs/lua/finish.lua`) can settle within its own step.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

_INCLUDE: Final = re.compile(r"^--@include[ \t]+(\S+)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, and the SHA-1 by which EVALSHA names it."""

    name: str
    source: str = field(repr=False)
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call of a script: what is sent, and how the reply is parsed.

    Every script of Overnight may be repeated: the same call changes nothing the second time and gives the same answer.
    `joins`: the script takes any number of last arguments, each a call of its own. It returns one answer, or a list if
    there are several. If one of them fails, nothing has changed.
    """

    script: Script
    keys: tuple[str, ...]
    args: tuple[str | bytes | int, ...] = field(repr=False)
    parse: Callable[[Any], T] = field(repr=False)
    joins: bool = False


@cache
def load(path: str) -> Script:
    """The script at `path`, such as "limits/lua/admit.lua", with its includes resolved."""
    return Script(path, compose(read(path)))


def read(path: str) -> str:
    """The text of a file in an installed package. `path` begins with the package."""
    package, _, rest = path.partition("/")
    return files(package).joinpath(*rest.split("/")).read_text(encoding="utf-8")


def compose(source: str, read_file: Callable[[str], str] = read) -> str:
    """`source` with each include line replaced by its file, depth first, each file once.

    `read_file` lets a test compose from changed fragments.
    """
    included: set[str] = set()

    def resolve(match: re.Match[str]) -> str:
        path = match.group(1)
        if path in included:
            return ""
        included.add(path)
        return _INCLUDE.sub(resolve, read_file(path))

    return _INCLUDE.sub(resolve, source)
