"""The provider's files and its Batch API, of OpenAI's shape. Time passes by `batch_delay`, or when a test says so.

A provider batch takes `batch_delay` seconds (a number, or a pair from which its number picks) from its creation to its
end. What goes wrong is set by `batch_faults`, a list of {"mode": …}, each for the first provider batches that it meets:

    lost_create      the provider batch is created, and the connection breaks before the answer
    lost_upload      the same for an upload
    refused_create   400: the account may not use it
    busy_create      429
    token_limit      created, then failed: the queue's limit, `limit` tokens
    bad_line         created, then failed: a line is invalid
    hang             it never ends, and does not answer a cancel
    expires          it expires with the part `done` of its lines in the output
    missing          the part `done` of its lines is in neither file
    late_file        completed, but the output file's id comes `seconds` later
    corrupt          every third line of the output is cut off
    errors_4xx, errors_5xx, errors_429     the part `done` of its lines fails with this status
"""

import time
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.simulator import answers
from tests.simulator.config import Model
from tests.simulator.faults import Plan, error
from tests.simulator.journal import Entry, Journal


@dataclass(slots=True)
class File:
    """A file at the provider."""

    id: str
    name: str
    content: bytes


@dataclass(slots=True)
class ProviderBatch:
    """A provider batch; its times are seconds since the epoch."""

    id: str
    number: int
    file: File
    endpoint: str
    metadata: dict[str, Any]
    key: int
    created: float
    fault: dict[str, Any]
    ends: float
    lines: list[dict[str, Any]] = field(default_factory=list)
    status: str = "validating"
    ended: float = 0.0
    failure: dict[str, str] | None = None
    output: File | None = None
    errors: File | None = None
    counts: dict[str, int] = field(default_factory=dict)


class Batches:
    """The Batch API of one simulated provider. What a provider batch has run is billed at `PRICE` of the live price."""

    PRICE = 0.5

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.batches: dict[str, ProviderBatch] = {}
        self.met: dict[int, int] = {}
        self.cancels = 0

    def handle(self, config: Any, journal: Journal, request: tuple[str, str, str, int, str, bytes]) -> Plan | None:
        """Answer a request of the Batch API; None if it isn't one."""
        method, path, query, key, kind, content = request
        parts = path.removeprefix("/v1").strip("/").split("/")
        self._pass_time(config, journal)
        match method, parts:
            case "POST", ["files"]:
                return self._upload(config, kind, content)
            case "GET", ["files", name, "content"]:
                return self._content(name)
            case "DELETE", ["files", name]:
                return Plan(
                    body=orjson.dumps({"id": name, "object": "file", "deleted": bool(self.files.pop(name, None))})
                )
            case "POST", ["batches"]:
                return self._create(config, key, orjson.loads(content))
            case "GET", ["batches"]:
                return self._list(query, key)
            case "GET", ["batches", name] if name in self.batches:
                return Plan(body=orjson.dumps(self._shown(self.batches[name])))
            case "POST", ["batches", name, "cancel"] if name in self.batches:
                return self._cancel(self.batches[name])
            case _, ["batches" | "files", *_]:
                return error("openai", 404, f"No such thing: {path}")
        return None

    def shown(self) -> list[dict[str, Any]]:
        """Every provider batch, for tests."""
        return [self._shown(each) | {"lines": len(each.lines), "key": each.key} for each in self.batches.values()]

    def _fault(self, config: Any, *modes: str) -> dict[str, Any]:
        """The first fault of these modes that has not met as many requests as it should."""
        for index, fault in enumerate(config.batch_faults):
            if fault["mode"] in modes and self.met.get(index, 0) < fault.get("times", 1):
                self.met[index] = self.met.get(index, 0) + 1
                return dict(fault)
        return {}

    def _upload(self, config: Any, kind: str, content: bytes) -> Plan:
        boundary = b"--" + kind.partition("boundary=")[2].encode()
        for part in content.split(boundary):
            head, _, body = part.partition(b"\r\n\r\n")
            if b'name="file"' in head:
                name = head.partition(b'filename="')[2].partition(b'"')[0].decode()
                file = File(f"file-{len(self.files) + 1}", name, body.removesuffix(b"\r\n"))
                self.files[file.id] = file
                shown = {"id": file.id, "object": "file", "bytes": len(file.content), "purpose": "batch"}
                plan = Plan(body=orjson.dumps({**shown, "filename": name, "created_at": int(time.time())}))
                return _lost(plan) if self._fault(config, "lost_upload") else plan
        return error("openai", 400, "There is no file in the form")

    def _content(self, name: str) -> Plan:
        if name not in self.files:
            return error("openai", 404, f"No such file: {name}")
        return Plan(body=self.files[name].content, headers={"content-type": "application/octet-stream"})

    def _create(self, config: Any, key: int, body: dict[str, Any]) -> Plan:
        if self._fault(config, "refused_create"):
            return error("openai", 400, "This account may not use the Batch API")
        if self._fault(config, "busy_create"):
            return error("openai", 429, "Too many requests")
        lost = self._fault(config, "lost_create")
        file, number, now = self.files.get(body["input_file_id"]), len(self.batches) + 1, time.time()
        if file is None:
            return error("openai", 400, "No such file")
        fault = self._fault(
            config,
            *("token_limit", "bad_line", "hang", "expires", "missing", "late_file", "corrupt"),
            *("errors_4xx", "errors_5xx", "errors_429"),
        )
        made = ProviderBatch(
            id=f"batch_{number:08x}",
            number=number,
            file=file,
            endpoint=body["endpoint"],
            metadata=body.get("metadata") or {},
            key=key,
            created=now,
            fault=fault,
            ends=now + answers.pick(config.batch_delay, str(number), "batch"),
            lines=[orjson.loads(line) for line in file.content.splitlines()],
        )
        self.batches[made.id] = made
        plan = Plan(body=orjson.dumps(self._shown(made)))
        return _lost(plan) if lost else plan

    def _list(self, query: str, key: int) -> Plan:
        asked = dict(part.partition("=")[::2] for part in query.split("&") if part)
        rows = [each for each in reversed(self.batches.values()) if each.key == key]
        if after := asked.get("after"):
            rows = rows[[each.id for each in rows].index(after) + 1 :]
        limit = int(asked.get("limit", 20))
        data = [self._shown(each) for each in rows[:limit]]
        return Plan(body=orjson.dumps({"object": "list", "data": data, "has_more": len(rows) > limit}))

    def _cancel(self, batch: ProviderBatch) -> Plan:
        self.cancels += 1
        if batch.ended:
            return error("openai", 409, f"Cannot cancel a batch with status {batch.status}")
        if batch.fault.get("mode") != "hang":
            batch.status = "cancelling"
        return Plan(body=orjson.dumps(self._shown(batch)))

    def _pass_time(self, config: Any, journal: Journal) -> None:
        now = time.time()
        for batch in self.batches.values():
            mode = batch.fault.get("mode")
            if batch.ended or (mode == "hang" and batch.status != "cancelling"):
                if not batch.ended:
                    batch.status = "in_progress"
                continue
            if mode in {"token_limit", "bad_line"}:
                self._fail(batch)
            elif batch.status == "cancelling":
                done = min(1.0, (now - batch.created) / max(0.001, batch.ends - batch.created))
                self._end(config, journal, batch, "cancelled", done)
            elif now >= batch.ends:
                expires = mode == "expires"
                done = batch.fault.get("done", 0.5) if expires else 1.0
                self._end(config, journal, batch, "expired" if expires else "completed", done)
            else:
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
        output, errors = [], []
        run = round(done * len(batch.lines))
        mode, part = batch.fault.get("mode", ""), batch.fault.get("done", 0.5)
        troubled = round(part * len(batch.lines))
        for index, line in enumerate(batch.lines):
            name = line["custom_id"]
            if index >= run:
                code = "batch_expired" if status == "expired" else "batch_cancelled"
                errors.append({"custom_id": name, "response": None, "error": {"code": code, "message": "not run"}})
            elif mode == "missing" and index < troubled:
                continue
            elif mode.startswith("errors_") and index < troubled:
                number = {"4xx": 400, "5xx": 500, "429": 429}[mode.removeprefix("errors_")]
                said = {"error": {"message": "The model refused", "type": "invalid_request_error", "code": "bad"}}
                errors.append({"custom_id": name, "response": {"status_code": number, "body": said}, "error": None})
            else:
                body = self._answer(config, journal, batch, line)
                response = {"status_code": 200, "request_id": f"r{index}", "body": body}
                output.append({"id": f"batch_req_{index}", "custom_id": name, "response": response, "error": None})
        output.reverse()
        raw = [orjson.dumps(each) for each in output]
        if mode == "corrupt":
            raw = [each[: len(each) // 2] if index % 3 == 0 else each for index, each in enumerate(raw)]
        if raw:
            batch.output = self._made(batch, "output", b"".join(each + b"\n" for each in raw))
        if errors:
            batch.errors = self._made(batch, "error", b"".join(orjson.dumps(each) + b"\n" for each in errors))
        batch.counts = {"total": len(batch.lines), "completed": len(output), "failed": len(errors)}

    def _answer(self, config: Any, journal: Journal, batch: ProviderBatch, line: dict[str, Any]) -> dict[str, Any]:
        body = line["body"]
        job, model = answers.job_of(body), body["model"]
        asked = max(1, len(orjson.dumps(body)) // 4)
        made = answers.made_tokens(body, job, config.answer_tokens)
        price = config.models.get(model) or config.models.get("*") or Model()
        cost = round(1000 * self.PRICE * (asked * price.input_usd_per_mtok + made * price.output_usd_per_mtok))
        now = time.monotonic()
        entry = Entry(len(journal.entries), now, time.time(), batch.endpoint, model, job, batch.key, status=200)
        entry.input_tokens, entry.output_tokens, entry.cost_nusd, entry.mode = asked, made, cost, "batch"
        journal.add(entry, {}, None)
        journal.done()
        return answers.chat(body, model, job, asked, made, config.cached_tokens)

    def _made(self, batch: ProviderBatch, kind: str, content: bytes) -> File:
        file = File(f"file-{kind}-{batch.number}", f"{kind}.jsonl", content)
        self.files[file.id] = file
        return file

    def _shown(self, batch: ProviderBatch) -> dict[str, Any]:
        late = batch.fault.get("mode") == "late_file" and time.time() < batch.ended + batch.fault.get("seconds", 1.0)
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.endpoint,
            "input_file_id": batch.file.id,
            "completion_window": "24h",
            "status": batch.status,
            "errors": {"object": "list", "data": [batch.failure]} if batch.failure else None,
            "output_file_id": batch.output.id if batch.output and not late else None,
            "error_file_id": batch.errors.id if batch.errors else None,
            "created_at": int(batch.created),
            "request_counts": batch.counts or {"total": len(batch.lines), "completed": 0, "failed": 0},
            "metadata": batch.metadata,
        }


def _lost(plan: Plan) -> Plan:
    plan.mode = "disconnect"
    return plan
