"""The provider's files and provider batches, whatever Batch API shows them (batch_openai.py and the others).

A provider batch takes `batch_delay` seconds (a number, or a pair from which its number picks) from its creation to its
end. With `batch_times`, pairs of a part and seconds, that part of all provider batches has ended after these seconds;
each model's provider batches are spread evenly over these parts.

What goes wrong is set by `batch_faults`, a list of {"mode": …, "times": 1}, each for the first that it meets:

    lost_STEP        the step is made, and the connection breaks before its answer; STEP is upload, create, list, get,
                     cancel, content or delete
    half_STEP        half of the answer comes, and the connection breaks
    hang_STEP, drip_STEP     the answer comes after `seconds`, or takes that long
    busy_STEP        429, and the step is not made; error_STEP: 500; denied_STEP: 403; absent_STEP: 404
    refused_create   400: the account may not use it
    token_limit      created, then failed: the queue's limit, `limit` tokens
    bad_line         created, then failed: a line is invalid
    hang             it never ends, and does not answer a cancel
    deaf             it does not answer a cancel, and ends in its time
    queued           it waits for `seconds` before it begins
    expires          it expires with the part `done` of its lines in the output
    missing          the part `done` of its lines is in neither file
    late_file        completed, but the output file's id comes `seconds` later
    corrupt          every third line of the output is cut off
    errors_4xx, errors_5xx, errors_429     the part `done` of its lines fails with this status

A fault with a `job` strikes only if a line that the request is about has this text, or names the file or provider
batch of such a line. `struck` counts how often each fault did.

With the setting `batch_enqueued_tokens`, a provider batch above what is left of it is created, then failed.
"""

import re
import time
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.simulator import answers, flaws
from tests.simulator.batch_objects import Asked, File, Line, Outcome
from tests.simulator.batch_times import seconds
from tests.simulator.config import Model
from tests.simulator.faults import Plan, error
from tests.simulator.journal import Entry, Journal

#: What goes wrong with a whole provider batch.
OF_BATCHES = (
    *("token_limit", "bad_line", "hang", "deaf", "queued", "expires", "missing", "late_file", "corrupt"),
    *("errors_4xx", "errors_5xx", "errors_429"),
)
#: How the ids of files of results begin, before the number of their provider batch.
RESULT_FILES = ("file-output", "file-error", "batch")

_REFUSALS = {"busy": 429, "error": 500, "denied": 403, "absent": 404}


@dataclass(slots=True)
class ProviderBatch:
    """A provider batch; its times are seconds since the epoch. `status` is OpenAI's word for its state."""

    id: str
    number: int
    api: str
    file: File
    endpoint: str
    model: str
    mark: Any
    key: int
    created: float
    fault: dict[str, Any]
    ends: float
    lines: list[Line]
    status: str = "validating"
    cancelled: float = 0.0
    ended: float = 0.0
    failure: dict[str, str] | None = None
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return sum(asked_tokens(line.body) for line in self.lines)

    @property
    def late(self) -> bool:
        """Whether its file's id is not there yet, although it has ended."""
        return self.fault.get("mode") == "late_file" and time.time() < self.ended + self.fault.get("seconds", 1.0)

    def count(self, *, ok: bool) -> int:
        """Its lines that have succeeded, or that have not."""
        return sum((each.status == 200) == ok for each in self.outcomes)

    def content(self, rows: list[Any], *, output: bool = True) -> bytes:
        """A result file's content. Its order is not that of the lines."""
        raw = [orjson.dumps(each) for each in reversed(rows)]
        if output and self.fault.get("mode") == "corrupt":
            raw = [each[: len(each) // 2] if index % 3 == 0 else each for index, each in enumerate(raw)]
        return b"".join(each + b"\n" for each in raw)


class Batches:
    """Every file and provider batch. What a provider batch has run is billed at `PRICE` of the live price."""

    PRICE = 0.5

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.batches: dict[str, ProviderBatch] = {}
        self.struck: dict[int, int] = {}
        self.about = b""

    def fault(self, config: Any, *modes: str) -> dict[str, Any]:
        """The first fault of these modes that has not struck as many requests as it should."""
        for index, fault in enumerate(config.batch_faults):
            if fault["mode"] not in modes or self.struck.get(index, 0) >= fault.get("times", 1):
                continue
            if fault.get("job", "").encode() in self.about:
                self.struck[index] = self.struck.get(index, 0) + 1
                return dict(fault)
        return {}

    def look_at(self, config: Any, asked: Asked) -> None:
        """Note the lines that a request is about, if a fault asks for some."""
        if not any("job" in fault for fault in config.batch_faults):
            return
        named = set(re.split(r"[/:]", asked.path))
        found = [asked.content]
        found += [
            file.content
            for file in self.files.values()
            if file.id.rpartition("/")[2] in named or file.id.encode() in asked.content
        ]
        for batch in self.batches.values():
            if named & {batch.id.rpartition("/")[2], *(f"{each}-{batch.number}" for each in RESULT_FILES)}:
                found.extend(orjson.dumps(line.body) for line in batch.lines)
        self.about = b"\n".join(found)

    def refusal(self, config: Any, api: str, step: str) -> Plan | None:
        """The refusal of a step before it is made."""
        for name, status in _REFUSALS.items():
            if fault := self.fault(config, f"{name}_{step}"):
                plan = error(api, status, f"Simulated {name}", name if status == 404 else None)
                plan.headers = {"retry-after": str(fault["retry_after"])} if "retry_after" in fault else {}
                return plan
        return None

    def lost(self, config: Any, step: str, plan: Plan) -> Plan:
        """The answer, or the end of the connection in its place."""
        if self.fault(config, f"lost_{step}"):
            plan.mode = "disconnect"
        elif self.fault(config, f"half_{step}"):
            plan.mode = "half"
        else:
            for mode in ("hang", "drip"):
                if fault := self.fault(config, f"{mode}_{step}"):
                    plan.mode, plan.seconds = mode, fault.get("seconds", 60.0)
        return plan

    def keep(self, name: str, content: bytes, purpose: str = "batch", prefix: str = "file-") -> File:
        """Keep a file that was uploaded or made."""
        file = File(f"{prefix}{len(self.files) + 1:04x}", name, content, purpose=purpose)
        self.files[file.id] = file
        return file

    def add(  # what a create says, whatever its shape
        self, config: Any, api: str, batch_id: str, file: File, lines: list[Line], **said: Any
    ) -> ProviderBatch:
        """Create a provider batch."""
        number, now = len(self.batches) + 1, time.time()
        fault = self.fault(config, *OF_BATCHES)
        waits = fault.get("seconds", 1.0) if fault.get("mode") == "queued" else 0.0
        ends = now + waits + seconds(config, number, sum(each.model == said["model"] for each in self.batches.values()))
        made = ProviderBatch(
            batch_id.format(number), number, api, file, created=now, fault=fault, ends=ends, lines=lines, **said
        )
        limit = config.batch_enqueued_tokens
        queued = sum(each.tokens for each in self.batches.values() if not each.ended and each.model == made.model)
        if limit and queued + made.tokens > limit:
            made.fault = {"mode": "token_limit", "limit": limit}
        self.batches[made.id] = made
        return made

    def cancel(self, batch: ProviderBatch) -> bool:
        """Begin to cancel; False if it has ended."""
        if batch.ended:
            return False
        if batch.fault.get("mode") not in {"hang", "deaf"}:
            batch.status, batch.cancelled = "cancelling", time.time()
        return True

    def of_key(self, key: int) -> list[ProviderBatch]:
        """The provider batches of a key, newest first."""
        return [each for each in reversed(self.batches.values()) if each.key == key]

    def pass_time(self, config: Any, journal: Journal) -> None:
        """Take every provider batch to where it is by now."""
        now = time.time()
        for batch in self.batches.values():
            mode = batch.fault.get("mode")
            if batch.ended:
                continue
            if mode in {"token_limit", "bad_line"}:
                self._fail(batch)
            elif mode == "hang":
                batch.status = "in_progress"
            elif batch.status == "cancelling":
                done = min(1.0, (now - batch.created) / max(0.001, batch.ends - batch.created))
                self._end(config, journal, batch, "cancelled", done)
            elif now >= batch.ends:
                expires = mode == "expires"
                done = batch.fault.get("done", 0.5) if expires else 1.0
                self._end(config, journal, batch, "expired" if expires else "completed", done)
            elif mode != "queued" or now - batch.created >= batch.fault.get("seconds", 1.0):
                batch.status = "in_progress"

    def _fail(self, batch: ProviderBatch) -> None:
        batch.status, batch.ended = "failed", time.time()
        batch.failure = {"code": "invalid_json_line", "message": "Line 1 is invalid"}
        if batch.fault["mode"] == "token_limit":
            limit = f"{batch.fault['limit']:,} enqueued tokens"
            words = f"Enqueued token limit reached for m in organization o. Limit: {limit}."
            batch.failure = {"code": "token_limit_exceeded", "message": words}

    def _end(self, config: Any, journal: Journal, batch: ProviderBatch, status: str, done: float) -> None:
        """Run the part `done` of the lines, and bill it."""
        batch.status, batch.ended = status, time.time()
        if batch.api == "gemini" and status == "expired":
            done = 0.0  # it loses everything
        run = round(done * len(batch.lines))
        mode, part = batch.fault.get("mode", ""), batch.fault.get("done", 0.5)
        troubled = round(part * len(batch.lines))
        for index, line in enumerate(batch.lines):
            if index >= run:
                batch.outcomes.append(Outcome(line, 0))
            elif mode == "missing" and index < troubled:
                continue
            elif mode.startswith("errors_") and index < troubled:
                number = {"4xx": 400, "5xx": 500, "429": 429}[mode.removeprefix("errors_")]
                batch.outcomes.append(Outcome(line, number, words="The model refused"))
            else:
                batch.outcomes.append(Outcome(line, 200, self._answer(config, journal, batch, line)))

    def _answer(self, config: Any, journal: Journal, batch: ProviderBatch, line: Line) -> dict[str, Any]:
        body, model = line.body, line.body.get("model") or batch.model
        job, asked, cached = answers.job_of(body), asked_tokens(body), config.cached_tokens
        embeds = batch.endpoint.endswith("embeddings")
        made = 0 if embeds else answers.made_tokens(body, job, config.answer_tokens)
        price = config.models.get(model) or config.models.get("*") or Model()
        cost = round(1000 * self.PRICE * (asked * price.input_usd_per_mtok + made * price.output_usd_per_mtok))
        now = time.monotonic()
        entry = Entry(len(journal.entries), now, time.time(), batch.endpoint, model, job, batch.key, status=200)
        entry.input_tokens, entry.output_tokens, entry.cost_nusd = asked, made, cost
        entry.mode, entry.custom_id = "batch", line.custom_id
        journal.add(entry, {}, None)
        journal.done()
        if embeds:
            return answers.embeddings(body, model, job, asked)
        if batch.api == "anthropic":
            found = answers.message(body, model, job, asked, made, cached)
        elif batch.endpoint.endswith("responses"):
            found = answers.response(model, job, asked, made, cached)
        else:
            found = answers.chat(body, model, job, asked, made, cached)
            if config.call_tools and answers.wants_tool(body):
                answers.call_tool(found, body, job)
        flaws.spoil(config, journal.flawed, found, body, job)
        return found


def asked_tokens(body: dict[str, Any]) -> int:
    """The input tokens of a body."""
    return max(1, len(orjson.dumps(body)) // 4)
