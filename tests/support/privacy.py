"""What can be read of a run, and how it is searched for prompts and keys."""

import base64
import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis  # noqa: TC002 - as in the tests that it serves

from tests.support.site import Site, job

TYPO: Final = "Marzipan-0815"

#: What the simulator's answers look like, and the prompts' mark; also as Celery's messages carry them.
ANSWER: Final = re.compile(rb"answer [0-9a-f]{8}")

#: Keys of Redis that hold messages, results and journals: prompts and answers may be there.
MESSAGES: Final = re.compile(
    rb"workflow\.|celery-task-meta-|\{overnight\}:(unacked|delayed_messages|dead|job:|batch:[^:]+:results|journal)"
)


class Night:
    """What can be read of a run, by its place."""

    def __init__(self) -> None:
        self.found: dict[str, bytes] = {}
        self.messages: dict[str, bytes] = {}

    def saw(self, where: str, what: bytes | str) -> None:
        self.found[where] = what.encode() if isinstance(what, str) else what

    def read_redis(self, client: "redis.Redis") -> None:
        """Every key with all that is in it, by its type."""
        for name in client.scan_iter(count=1000):
            content = b"\0".join(self._flat(read(client, name)))
            kind = self.messages if MESSAGES.match(name) else self.found
            where = f"redis {name.decode(errors='replace')}"
            kind[where] = kind.get(where, b"") + name + b"\0" + content

    def _flat(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, dict):
            value = list(value.items())
        if isinstance(value, list | tuple | set):
            for part in value:
                yield from self._flat(part)
        else:
            yield value if isinstance(value, bytes) else str(value).encode()


def read(client: Any, name: bytes) -> Any:
    match client.type(name):
        case b"string":
            return client.get(name)
        case b"hash":
            return client.hgetall(name)
        case b"list":
            return client.lrange(name, 0, -1)
        case b"set":
            return client.smembers(name)
        case b"zset":
            return client.zrange(name, 0, -1, withscores=True)
        case b"stream":
            return client.xrange(name)
        case b"none":
            return b""
        case kind:
            raise AssertionError(f"{name!r} is a {kind!r}: read it, too")


@contextmanager
def watched(night: Night, client: "redis.Redis") -> Iterator[None]:
    """Read all of Redis again and again, since much of it lives for less than a second."""
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.25):
            night.read_redis(client)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def printed(site: Site, batch: str) -> dict[str, str]:
    """What the commands show, to people and to programs; and what they say of a file with mistakes."""
    commands = (
        ("status",),
        ("status", batch),
        ("status", batch, "--json"),
        ("limits",),
        ("limits", "--json"),
        ("costs", "--json"),
        ("dead", "list"),
        ("jobs", batch, "job-3"),
        ("check",),
    )
    running = {" ".join(command): site.popen(*command) for command in commands}
    bad = site.folder / "bad.jsonl"
    wrong = job(1, text=TYPO)
    texts = [json.dumps(wrong)[:-9], json.dumps({**wrong, "url": "/v1/nowhere"}), json.dumps({**wrong, "body": TYPO})]
    bad.write_text("\n".join(texts))
    running["submit bad.jsonl"] = site.popen("submit", str(bad), "-w", "nightly")
    found = {}
    for name, process in running.items():
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err, f"{name}: {err}"
        found[f"overnight {name}"] = out + err
    return found


def metrics(site: Site) -> str:
    process = site.popen("metrics", "--port", "0")
    assert process.stderr is not None
    try:
        address = process.stderr.readline().split()[-1]
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=30) as answer:
            return str(answer.read().decode())
    finally:
        process.terminate()
        process.communicate(timeout=30)


def base64_too(what: bytes) -> bytes:
    """The bytes, and what they hold in base64, which is how Celery's messages carry their bodies."""
    decoded = []
    for found in re.findall(rb"[A-Za-z0-9+/]{40,}={0,2}", what):
        try:
            decoded.append(base64.b64decode(found + b"=" * (-len(found) % 4)))
        except ValueError:
            continue
    return b"\0".join([what, *decoded])
