"""What a journal holds: an entry for each finished call or step, and sums.

The journal is a Redis hash:

    round, born, began      the job's round; when its first round began, and when this one did (µs)
    cost, calls, …          sums of this round: n$, requests sent, tokens, 429s
    e:<position>            an entry, JSON: a digest of what was asked, what it took, how it ended
    b:<position>            its body: the result line of a call, the JSON that a step returned; large ones are files
    o:<position>            the state of a call that is not finished, like that in a job's message
    g:<position>            after how many seconds the agent gave this call or step up; every replay does so too
    wait, waits             why the job is in its queue and until when, JSON; how often it has waited
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

import orjson

from limits.encoding import SECOND
from tasks.agents.position import order


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished call or step.

    `kind` is call or step; `name` is the requested model, or the step's name. `digest` stands for the request. `at`
    is when it ended, in seconds since the epoch; `cost` is in n$. `code` is the error's, '' if it succeeded. `file` is
    the file that holds its body if that is large.
    """

    kind: str
    name: str
    digest: str
    round: int
    ok: bool
    at: float
    seconds: float
    cost: int = 0
    target: str = ""
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    code: str = ""
    file: str = ""
    position: str = ""

    def head(self) -> bytes:
        """The entry as the journal stores it, without its body and position."""
        return orjson.dumps({name: value for name in _HEAD if (value := getattr(self, name)) != ""})


_FIELDS: Final = frozenset(each.name for each in fields(Entry))
_HEAD: Final = tuple(each.name for each in fields(Entry) if each.name != "position")


@dataclass(slots=True)
class Record:
    """A journal as it was read. Times are in seconds since the epoch, money in n$.

    `entries` are in the order of the agent's code. `open` holds the state of unfinished calls.
    """

    round: int = 0
    born: float = 0.0
    began: float = 0.0
    cost: int = 0
    calls: int = 0
    throttled: int = 0
    waits: int = 0
    wait: dict[str, Any] | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    open: dict[str, dict[str, int]] = field(default_factory=dict)
    given_up: dict[str, float] = field(default_factory=dict)


def read(found: Mapping[bytes, bytes]) -> Record:
    """Read a journal's hash."""
    record = Record()
    for key, value in found.items():
        name, _, position = key.decode().partition(":")
        match name:
            case "round" | "cost" | "calls" | "throttled" | "waits":
                setattr(record, name, int(value))
            case "born" | "began":
                setattr(record, name, int(value) / SECOND)
            case "wait":
                record.wait = orjson.loads(value)
            case "e":
                known = {key: value for key, value in orjson.loads(value).items() if key in _FIELDS}
                record.entries[position] = Entry(**{**known, "position": position})
            case "b":
                record.bodies[position] = value
            case "o":
                record.open[position] = orjson.loads(value)
            case "g":
                record.given_up[position] = float(value)
    record.entries = dict(sorted(record.entries.items(), key=lambda item: order(item[0])))
    return record
