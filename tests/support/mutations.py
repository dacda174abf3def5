"""Messages that mean harm: a good one, changed by a seeded hand in its headers, properties, body, encoding or size."""

import base64
import bz2
import json
import lzma
import random
import zlib
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from functools import cache
from typing import Any, Final

from tests.support.site import job

QUEUE = "workflow.mallory"

#: Values of every type and size, for wherever one of them may stand.
STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 3, 2**31, 2**53, 2**63 - 1, -(2**63), 2**64, 1e308, -1e-308, 0.5),
    *(
        "",
        "x",
        "a" * 5_000,
        "../../etc",
        "x\n[CRITICAL] forged \x1b[31m",
        "\x00",
        "é\ud7ff\U0001f600",
        "{}",
        "-0",
        "NaN",
    ),
    *("workflow.victim", "overnight.job", "2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01", "__type__"),
    *([], [[]], [None, None], ["a", "b"], [1, 2, 3], [1, 2], {}, {"a": 1}, {"__type__": "date", "__value__": "x"}),
    *([{"task": "x", "options": {"queue": "workflow.victim"}}], {"routing_key": "workflow.victim", "exchange": ""}),
)

HEADERS = (
    *("id", "task", "lang", "root_id", "parent_id", "group", "group_index", "shadow", "eta", "expires", "retries"),
    *("timelimit", "argsrepr", "kwargsrepr", "origin", "ignore_result", "stamped_headers", "stamps", "compression"),
    *(
        "overnight",
        "overnight_proof",
        "overnight_flex_until",
        "overnight_untaken",
        "traceparent",
        "delivery_info",
        "callbacks",
        "chord",
        "get",
    ),
    *("update", "headers", "properties", "reply_to", "hostname", "is_eager", "redelivered", "x-delivery-count"),
    *("replaced_task_nesting", "_protected", "utc", "args", "kwargs", "called_directly", "link", "deaths"),
)
PROPERTIES = (
    *("delivery_info", "delivery_tag", "body_encoding", "correlation_id", "reply_to", "priority", "delivery_mode"),
    *("overnight_deaths", "redelivered", "expiration"),
)
EMBEDDED = (
    "callbacks",
    "errbacks",
    "chain",
    "chord",
    "delivery_info",
    "id",
    "headers",
    "task",
    "overnight",
    "hostname",
)
KWARGS = ("job", "batch", "line", "round", "deadline", "more")
MEMORY = ("attempts", "throttles", "snoozes", "crashes", "calls", "cost", "since", "until", "owner")

PACKERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip": zlib.compress,
    "bzip2": bz2.compress,
    "lzma": lzma.compress,
}

Message = dict[str, Any]


class Mutations:
    """A stream of messages by a seed; `batch` is the victim's, which they know."""

    def __init__(self, seed: int, batch: str) -> None:
        self.random = random.Random(seed)
        self.batch = batch
        self.number = 0

    def next(self) -> bytes:
        """The next message, as it is to lie in the queue's list."""
        self.number += 1
        message = self._good()
        changes: tuple[Callable[[Message], None], ...] = (
            *(self._header, self._property, self._embedded, self._kwarg, self._memory, self._line, self._field),
            *(self._removed, self._packed, self._encoded, self._body),
        )
        for change in self.random.choices(changes, k=self.random.choice((1, 1, 1, 2, 3, 5))):
            with suppress(TypeError, AttributeError, KeyError, IndexError):  # an earlier change has left nothing there
                change(message)
        return self._written(message)

    def _good(self) -> Message:
        name = f"m-{self.number}"
        return {
            "body": [[], {"job": job(self.number, text="short", max_tokens=5)}, {}],
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"task": "overnight.job", "id": name, "lang": "py", "retries": 0, "timelimit": [None, None]},
            "properties": {
                "body_encoding": "base64",
                "delivery_info": {"exchange": "", "routing_key": QUEUE},
                "delivery_tag": name,
            },
        }

    def _any(self) -> Any:
        return deepcopy(self.random.choice(STRANGE))

    def _header(self, message: Message) -> None:
        if isinstance(message["headers"], dict):
            message["headers"][self.random.choice(HEADERS)] = self._any()

    def _property(self, message: Message) -> None:
        if isinstance(message["properties"], dict):
            message["properties"][self.random.choice(PROPERTIES)] = self._any()

    def _embedded(self, message: Message) -> None:
        if isinstance(message["body"], list) and isinstance(message["body"][2], dict):
            message["body"][2][self.random.choice(EMBEDDED)] = self._any()

    def _kwarg(self, message: Message) -> None:
        if isinstance(message["body"], list):
            message["body"][1][self.random.choice(KWARGS)] = self._any()

    def _line(self, message: Message) -> None:
        """A line of the victim's batch, which it is not."""
        if isinstance(message["body"], list):
            lines = (self.random.randint(1, 500), 501, 1_073_741_823, 4_294_967_295, 0)
            message["body"][1] |= {"batch": self.batch, "line": self.random.choice(lines), "round": 0}
        if self.random.random() < 0.5 and isinstance(message["headers"], dict):
            message["headers"]["overnight_proof"] = f"{self.random.getrandbits(160):040x}"

    def _memory(self, message: Message) -> None:
        if isinstance(message["headers"], dict):
            message["headers"]["overnight"] = {name: self._any() for name in self.random.choices(MEMORY, k=3)}

    def _field(self, message: Message) -> None:
        """Change one field of the call."""
        if isinstance(message["body"], list) and isinstance(found := message["body"][1].get("job"), dict):
            into = self.random.choice((found, found.get("body"), found.get("body")))
            if isinstance(into, dict):
                into[self.random.choice(("custom_id", "url", "body", "model", "messages", "max_tokens", "n"))] = (
                    self._any()
                )

    def _removed(self, message: Message) -> None:
        part = self.random.choice((message, message["headers"], message["properties"]))
        if isinstance(part, dict) and part:
            part[self.random.choice(sorted(part))] = self._any()

    def _packed(self, message: Message) -> None:
        """A compressed body; sometimes not of the kind that its header names, or a bomb."""
        kind, other = self.random.choice(sorted(PACKERS)), self.random.choice(sorted(PACKERS))
        body = message.get("body")
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        raw = bomb(kind) if self.random.random() < 0.02 else PACKERS[kind](text)
        message["body"] = raw
        if isinstance(message["headers"], dict):
            message["headers"]["compression"] = other if self.random.random() < 0.2 else kind

    def _encoded(self, message: Message) -> None:
        kinds = ("bz2_codec", "zlib_codec", "rot13", "utf-16", "latin-1", "binary", 5, None, "x" * 300)
        message["content-encoding"] = self.random.choice(kinds)
        if self.random.random() < 0.3:
            message["content-type"] = self.random.choice(
                ("application/x-python-serialize", "application/x-yaml", "x", 3)
            )

    def _body(self, message: Message) -> None:
        """Something else than arguments, or much of it."""
        choices = (
            b"",
            b"no JSON",
            b"[[]]",
            b"[" * 2_000,
            b"[[],{},{}",
            b"\xff\xfe",
            b"{}",
            b"[[],{},{}]",
            b"null",
            b"7",
        )
        message["body"] = self.random.choice((*choices, json.dumps([[], {"job": "x" * 200_000}, {}]).encode()))

    def _written(self, message: Message) -> bytes:
        body = message.get("body")
        raw = body if isinstance(body, bytes) else json.dumps(body).encode("utf-8", "replace")
        written = json.dumps({**message, "body": base64.b64encode(raw).decode()}).encode()
        match self.random.random():
            case cut if cut < 0.02:
                return written[: self.random.randrange(len(written))]
            case flip if flip < 0.05:
                at = self.random.randrange(len(written))
                return written[:at] + bytes([self.random.randrange(256)]) + written[at + 1 :]
            case marked if marked < 0.08:
                deaths = self.random.choice((1, 3, 5, 6, 999_999_999))
                return b'{"redelivered": true, "deaths": %d, ' % deaths + written[1:]
        return written


@cache
def bomb(kind: str) -> bytes:
    """120 MB of zeros, compressed."""
    made = {"gzip": zlib.compressobj(1), "bzip2": bz2.BZ2Compressor(1), "lzma": lzma.LZMACompressor(preset=0)}[kind]
    piece = bytes(10 << 20)
    return b"".join(made.compress(piece) for _ in range(12)) + bytes(made.flush())
