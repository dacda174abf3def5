"""Which branches of the Lua were reached: scripts that mark them in the server, and how to read the marks.

A branch is a condition that held or did not, the body of a loop, or a function. Each has a number. A script that is
composed here sets the bit with that number in the key "branches".
"""

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from limits.client.scripts import Script, compose, read
from tests.support.provider_feedback import OBSERVE, THROTTLED

if TYPE_CHECKING:
    import redis

KEY: Final = "branches"

MARKS: Final = """
local MARKED = {}
local function reached(number)
  if not MARKED[number] then
    MARKED[number] = true
    redis.call('SETBIT', 'branches', number, 1)
  end
end
local function holds(number, value)
  reached(value and number or number + 1)
  return value
end
"""

NAMES: Final[dict[int, str]] = {}
"""What each number stands for."""

_FORK: Final = re.compile(
    r"(?P<comment>--[^\n]*)|\b(?P<fork>if|elseif)\b(?P<condition>.+?)\bthen\b"
    r"|(?P<loop>\bdo\b)|(?P<function>\bfunction\b[^(]*\([^)]*\))",
    re.DOTALL,
)


@cache
def marked(path: str) -> str:
    """The text of a file with its branches marked."""
    text = read(path)

    def mark(match: re.Match[str]) -> str:
        line = text.count("\n", 0, match.start()) + 1
        place = f"{path.removeprefix('limits/lua/')}:{line}"
        if match["fork"]:
            condition = " ".join(match["condition"].split())
            number = _number(f"{place}: {condition}", f"{place}: not {condition}")
            return f"{match['fork']} holds({number}, {match['condition']}) then"
        if match["loop"] or match["function"]:
            return f"{match[0]} reached({_number(f'{place}: {match[0]}')}) "
        return match[0]

    return _FORK.sub(mark, text)


def _number(*names: str) -> int:
    first = len(NAMES)
    NAMES.update(enumerate(names, first))
    return first


@cache
def script(path: str) -> Script:
    """A script of limits/ that marks its branches."""
    return Script(path, MARKS + compose(marked(path), marked))


SCRIPTS: Final = {
    path: script(path)
    for path in (
        *sorted(f"limits/lua/{each.name}" for each in files("limits").joinpath("lua").iterdir() if each.is_file()),
        OBSERVE,
        THROTTLED,
    )
}


def harvest(client: "redis.Redis") -> set[int]:
    """The numbers of the branches that were marked in the server."""
    bits = client.get(KEY) or b""
    return {number for number in NAMES if number >> 3 < len(bits) and bits[number >> 3] & (0x80 >> (number & 7))}
