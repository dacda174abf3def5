"""Files, lines, their outcomes, and requests: what every Batch API of the simulator deals with."""

import time
from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(slots=True)
class File:
    """A file at the provider. It lives for `seconds`, 0 for ever."""

    id: str
    name: str
    content: bytes
    created: float = field(default_factory=time.time)
    purpose: str = "batch"
    seconds: int = 0


@dataclass(slots=True)
class Line:
    """One line of a provider batch: its name, and a body of OpenAI's or Anthropic's shape."""

    custom_id: str
    body: dict[str, Any]


@dataclass(slots=True)
class Outcome:
    """What became of a line: an answer, the provider's words for a failure, or '' if it was not run."""

    line: Line
    status: int
    answer: dict[str, Any] | None = None
    words: str = ""


@dataclass(slots=True)
class Asked:
    """One request to a Batch API. `step` is its name in faults; `api` the shape of errors."""

    method: str
    path: str
    query: dict[str, str]
    key: int
    headers: dict[str, str]
    content: bytes
    now: float = field(default_factory=time.time)

    @property
    def json(self) -> Any:
        return orjson.loads(self.content)
