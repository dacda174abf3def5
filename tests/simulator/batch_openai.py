"""OpenAI's Batch API, with the dialects of Azure (its paths, and `value` for a list) and Together (`/files/upload`)."""

from typing import Any

import orjson

from tests.simulator.batch_objects import Asked, File, Line
from tests.simulator.batches import Batches, ProviderBatch
from tests.simulator.faults import Plan, error

#: How the paths of each begin.
PREFIXES = ("/openai/v1", "/openai", "/together/v1", "/v1")

_STEPS = {
    ("POST", "files"): "upload",
    ("GET", "files"): "content",
    ("DELETE", "files"): "delete",
    ("POST", "batches"): "create",
    ("GET", "batches"): "list",
}


def handle(batches: Batches, config: Any, asked: Asked) -> Plan | None:
    """Answer a request; None if it isn't one of this Batch API."""
    prefix = next((each for each in PREFIXES if asked.path.startswith((f"{each}/files", f"{each}/batches"))), None)
    if prefix is None:
        return None
    azure, together = prefix.startswith("/openai"), prefix.startswith("/together")
    api = "azure" if azure else "openai"
    parts = asked.path.removeprefix(prefix).strip("/").split("/")
    step = "cancel" if parts[-1] == "cancel" else _STEPS.get((asked.method, parts[0]), "")
    if step == "list" and len(parts) > 1:
        step = "get"
    if azure and prefix == "/openai" and "api-version" not in asked.query:
        return error(api, 404, "Resource not found")
    if (refusal := batches.refusal(config, api, step)) is not None:
        return refusal
    plan = _made(batches, config, asked, (api, step, parts), together=together)
    return batches.lost(config, step, plan)


def _made(batches: Batches, config: Any, asked: Asked, what: tuple[str, str, list[str]], *, together: bool) -> Plan:
    api, step, parts = what
    name = parts[1] if len(parts) > 1 else ""
    batch = batches.batches.get(name)
    match step:
        case "upload":
            file = uploaded(batches, asked, prefix="file-")
            return error(api, 400, "No file for a batch") if file is None else encoded(shown_file(file))
        case "content" if name in batches.files and parts[-1] == "content":
            return Plan(body=batches.files[name].content, headers={"content-type": "application/octet-stream"})
        case "content" if name in batches.files:
            return encoded(shown_file(batches.files[name]))
        case "delete" if batches.files.pop(name, None):
            return encoded({"id": name, "object": "file", "deleted": True})
        case "create":
            return _create(batches, config, asked, api, together=together)
        case "list" if together:
            return encoded([_together(batches, each) for each in batches.of_key(asked.key)])
        case "list":
            return _listed(batches, asked, api)
        case "get" if batch is not None:
            return encoded(_together(batches, batch) if together else shown(batches, batch))
        case "cancel" if batch is not None:
            if not batches.cancel(batch):
                return error(api, 409, f"Cannot cancel a batch with status {batch.status}")
            return encoded(_together(batches, batch) if together else shown(batches, batch))
    return error(api, 404, f"No such thing: {asked.path}", "not_found")


def uploaded(batches: Batches, asked: Asked, prefix: str) -> File | None:
    """The file of a multipart form."""
    boundary = b"--" + asked.headers.get("content-type", "").partition("boundary=")[2].encode()
    fields: dict[str, bytes] = {}
    name = ""
    for part in asked.content.split(boundary):
        head, _, body = part.partition(b"\r\n\r\n")
        field = head.partition(b'name="')[2].partition(b'"')[0].decode()
        fields[field] = body.removesuffix(b"\r\n")
        if field == "file":
            name = head.partition(b'filename="')[2].partition(b'"')[0].decode()
    if "file" not in fields or fields.get("purpose") not in {b"batch", b"batch-api"}:
        return None
    file = batches.keep(name, fields["file"], fields["purpose"].decode(), prefix=prefix)
    if fields.get("expires_after[anchor]") == b"created_at":
        file.seconds = int(fields["expires_after[seconds]"])
    return file


def _create(batches: Batches, config: Any, asked: Asked, api: str, *, together: bool) -> Plan:
    if batches.fault(config, "refused_create"):
        return error(api, 400, "This account may not use the Batch API")
    body = asked.json
    file = batches.files.get(body["input_file_id"])
    if file is None:
        return error(api, 400, "No such file")
    if body.get("completion_window") != "24h":
        return error(api, 400, "Invalid completion_window")
    raw = [orjson.loads(line) for line in file.content.splitlines()]
    if any(each["url"] != body["endpoint"] for each in raw):
        return error(api, 400, "The url of a line is not the endpoint", "invalid_url")
    batch = batches.add(
        config,
        "openai",
        "batch_{:08x}",
        file,
        [Line(each["custom_id"], each["body"]) for each in raw],
        endpoint=body["endpoint"],
        model=raw[0]["body"]["model"] if raw else "",
        mark=body.get("metadata") or {},
        key=asked.key,
    )
    return encoded({"job": _together(batches, batch)} if together else shown(batches, batch))


def _listed(batches: Batches, asked: Asked, api: str) -> Plan:
    found = batches.of_key(asked.key)
    if after := asked.query.get("after"):
        found = found[[each.id for each in found].index(after) + 1 :]
    limit = min(int(asked.query.get("limit", 20)), 100)
    data = [shown(batches, each) for each in found[:limit]]
    name = "value" if api == "azure" else "data"
    page: dict[str, Any] = {"object": "list", name: data, "has_more": len(found) > limit}
    page |= {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return encoded(page)


def results(batches: Batches, batch: ProviderBatch) -> tuple[str | None, str | None]:
    """The ids of the files of results, which are made when they are first asked for."""
    if not batch.outcomes:
        return None, None
    ids = (f"file-output-{batch.number}", f"file-error-{batch.number}")
    if not any(each in batches.files for each in ids):
        rows: tuple[list[Any], list[Any]] = ([], [])
        for index, each in enumerate(batch.outcomes):
            rows[each.status != 200].append({"id": f"batch_req_{index}", **_row(batch, each, index)})
        for file_id, found in zip(ids, rows, strict=True):
            if found:
                content = batch.content(found, output=file_id == ids[0])
                batches.files[file_id] = File(file_id, f"{file_id}.jsonl", content, purpose="batch_output")
    output, errors = (each if each in batches.files else None for each in ids)
    return (None if batch.late else output), errors


def _row(batch: ProviderBatch, each: Any, index: int) -> dict[str, Any]:
    if each.status == 0:
        code = "batch_expired" if batch.status == "expired" else "batch_cancelled"
        return {"custom_id": each.line.custom_id, "response": None, "error": {"code": code, "message": "not run"}}
    body = each.answer or {"error": {"message": each.words, "type": "invalid_request_error", "code": "bad"}}
    response = {"status_code": each.status, "request_id": f"r{index}", "body": body}
    return {"custom_id": each.line.custom_id, "response": response, "error": None}


def shown(batches: Batches, batch: ProviderBatch) -> dict[str, Any]:
    """A provider batch as OpenAI shows it."""
    output, errors = results(batches, batch) if batch.api == "openai" else (None, None)
    stale = batch.status in {"expired", "cancelled"}
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "input_file_id": batch.file.id,
        "completion_window": "24h",
        "status": batch.status,
        "errors": {"object": "list", "data": [batch.failure]} if batch.failure else None,
        "output_file_id": output,
        "error_file_id": errors,
        "created_at": int(batch.created),
        "expires_at": int(batch.created) + 86_400,
        "request_counts": {
            "total": len(batch.lines),
            "completed": min(1, batch.count(ok=True)) if stale else batch.count(ok=True),
            "failed": 0 if stale else batch.count(ok=False),
        },
        "metadata": batch.mark if isinstance(batch.mark, dict) else {"mark": batch.mark},
    }


def _together(batches: Batches, batch: ProviderBatch) -> dict[str, Any]:
    output, errors = results(batches, batch)
    return {
        "id": batch.id,
        "user_id": "u",
        "input_file_id": batch.file.id,
        "file_size_bytes": len(batch.file.content),
        "status": batch.status.upper(),
        "job_deadline": "2026-12-02T00:00:00Z",
        "created_at": "2026-12-01T00:00:00Z",
        "endpoint": batch.endpoint,
        "progress": 100 * (len(batch.outcomes) / len(batch.lines)) if batch.lines else 0,
        "model_id": batch.model,
        "output_file_id": output or "",
        "error_file_id": errors or "",
        "error": batch.failure["message"] if batch.failure else "",
        "completed_at": "2026-12-01T01:00:00Z" if batch.ended else None,
    }


def shown_file(file: File) -> dict[str, Any]:
    """A file as OpenAI shows it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": len(file.content),
        "created_at": int(file.created),
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "expires_at": int(file.created) + file.seconds if file.seconds else None,
    }


def encoded(value: Any) -> Plan:
    """An answer in JSON."""
    return Plan(body=orjson.dumps(value))
