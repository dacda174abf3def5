"""Prompt caches as providers document them.

All of them: the cache belongs to an account and a model, only whole prefixes count, those from `minimum` tokens on. An
entry is there once the answer of the call that wrote it has begun, and is kept for `lifetime` seconds from its last
use. A token is four bytes here, as for quotas.

- OpenAI (https://platform.openai.com/docs/guides/prompt-caching): automatic, in steps of 128 tokens, at most `longest`
  seconds from its first use. Calls go to a machine by their first 256 tokens and `prompt_cache_key`; for each
  further `machine_rpm` calls a minute another machine takes its part, with a cache of its own.
- Anthropic (https://platform.claude.com/docs/en/build-with-claude/prompt-caching): up to the blocks that are marked
  with `cache_control`, an hour with `ttl = "1h"`, which is twelve lifetimes.
"""

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

BYTES = 4
STEP = 128
ROUTED_BY = 256


@dataclass(slots=True)
class CacheRules:
    """What the configuration says. Times in seconds; `machine_rpm` 0: one machine takes all calls."""

    lifetime: float = 300.0
    longest: float = 3600.0
    minimum: int = 1024
    machine_rpm: int = 0
    minute: float = 60.0


class Cached(NamedTuple):
    """Tokens of one call that were read from the cache, and that were written to it."""

    read: int = 0
    written: int = 0


@dataclass(slots=True)
class _Entry:
    begins: float
    ends: float
    last: float


class PromptCaches:
    """The entries of all accounts and models. Times are of `time.monotonic`."""

    def __init__(self, rules: CacheRules) -> None:
        self.rules = rules
        self.entries: dict[bytes, _Entry] = {}
        self.calls: dict[bytes, deque[float]] = {}
        self.sent: dict[bytes, int] = {}

    def of(self, request: Any, account: int, asked: int, begins: float) -> Cached:
        """What a request of `asked` tokens reads and writes; its answer begins at `begins`."""
        found = self.call(request.api, f"{account}/{request.model}", request.body, request.now, begins)
        read = min(found.read, asked)
        return Cached(read, min(found.written, asked - read))

    def call(self, api: str, scope: str, body: dict[str, Any], now: float, begins: float) -> Cached:
        """One call at `now` whose answer begins at `begins`: what it reads and writes."""
        if api == "anthropic":
            return self._marked(scope, body, now, begins)
        return self._automatic(scope, body, now, begins)

    def _automatic(self, scope: str, body: dict[str, Any], now: float, begins: float) -> Cached:
        prompt = b"".join(_parts(body))
        scope += self._machine(scope, prompt, body, now)
        found = 0
        digest = hashlib.blake2b(scope.encode(), digest_size=16)
        done = 0
        for tokens in range(self.rules.minimum, len(prompt) // BYTES + 1, STEP):
            digest.update(prompt[done : tokens * BYTES])
            done = tokens * BYTES
            if self._use(digest.digest(), now, begins, self.rules.lifetime, self.rules.longest):
                found = tokens
        return Cached(read=found)

    def _marked(self, scope: str, body: dict[str, Any], now: float, begins: float) -> Cached:
        digest = hashlib.blake2b(scope.encode(), digest_size=16)
        size = read = written = 0
        for part, mark in _blocks(body):
            digest.update(part)
            size += len(part)
            if mark is None or size // BYTES < self.rules.minimum:
                continue
            lifetime = self.rules.lifetime * (12 if mark.get("ttl") == "1h" else 1)
            if self._use(digest.digest(), now, begins, lifetime, float("inf")):
                read = size // BYTES
            written = size // BYTES
        return Cached(read=read, written=max(0, written - read))

    def _use(self, name: bytes, now: float, begins: float, lifetime: float, longest: float) -> bool:
        """Read an entry, or write it; returns whether it was there."""
        entry = self.entries.get(name)
        if entry is None or now >= min(entry.ends, entry.last):
            self.entries[name] = _Entry(begins, begins + lifetime, begins + longest)
            return False
        entry.ends = max(entry.ends, now + lifetime)
        return now >= entry.begins

    def _machine(self, scope: str, prompt: bytes, body: dict[str, Any], now: float) -> str:
        """Which machine takes the call."""
        if not self.rules.machine_rpm:
            return ""
        routed = f"{scope}:{body.get('prompt_cache_key', '')}:".encode() + prompt[: ROUTED_BY * BYTES]
        name = hashlib.blake2b(routed, digest_size=16).digest()
        calls = self.calls.setdefault(name, deque())
        while calls and calls[0] <= now - self.rules.minute:
            calls.popleft()
        calls.append(now)
        self.sent[name] = self.sent.get(name, 0) + 1
        return f"/{self.sent[name] % (len(calls) // self.rules.machine_rpm + 1)}"


def _parts(body: dict[str, Any]) -> Iterator[bytes]:
    """A prompt of OpenAI's in the order in which the model reads it."""
    for field in ("tools", "response_format", "text", "instructions"):
        if field in body:
            yield orjson.dumps(body[field])
    said = body.get("messages", body.get("input", ""))
    for turn in said if isinstance(said, list) else [said]:
        yield orjson.dumps(turn)


def _blocks(body: dict[str, Any]) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """A prompt of Anthropic's: each block, and its `cache_control` if it is marked."""
    blocks: list[Any] = list(body.get("tools", []))
    system = body.get("system", [])
    blocks += system if isinstance(system, list) else [{"text": system}]
    for turn in body["messages"]:
        content = turn["content"] if isinstance(turn["content"], list) else [{"text": turn["content"]}]
        blocks += [{"role": turn["role"], **block} for block in content]
    for index, block in enumerate(blocks):
        mark = block.get("cache_control")
        if mark is None and index == len(blocks) - 1:
            mark = body.get("cache_control")
        plain = {name: value for name, value in block.items() if name != "cache_control"}
        yield orjson.dumps(plain), mark
