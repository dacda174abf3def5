"""Mistral's Batch API: jobs with a model, and lines without a url. Its files are those of OpenAI's shape."""

from typing import Any

from tests.simulator.batch_anthropic import iso, lines_of
from tests.simulator.batch_objects import Asked, Line
from tests.simulator.batch_openai import encoded, results
from tests.simulator.batches import Batches, ProviderBatch
from tests.simulator.faults import Plan, error

PREFIX = "/v1/batch/jobs"
_STATES = {
    "validating": "QUEUED",
    "in_progress": "RUNNING",
    "completed": "SUCCESS",
    "failed": "FAILED",
    "expired": "TIMEOUT_EXCEEDED",
    "cancelling": "CANCELLATION_REQUESTED",
    "cancelled": "CANCELLED",
}


def handle(batches: Batches, config: Any, asked: Asked) -> Plan | None:
    """Answer a request; None if it isn't one of this Batch API."""
    if not asked.path.startswith(PREFIX):
        return None
    name, _, action = asked.path.removeprefix(PREFIX).strip("/").partition("/")
    step = "cancel" if action == "cancel" else "get" if name else "create" if asked.method == "POST" else "list"
    if (refusal := batches.refusal(config, "openai", step)) is not None:
        return refusal
    return batches.lost(config, step, _made(batches, config, asked, step, batches.batches.get(name)))


def _made(batches: Batches, config: Any, asked: Asked, step: str, batch: ProviderBatch | None) -> Plan:
    if step == "create":
        return _create(batches, config, asked)
    if step == "list":
        found = [each for each in batches.of_key(asked.key) if each.api == "mistral"]
        size, page = int(asked.query.get("page_size", 100)), int(asked.query.get("page", 0))
        data = [shown(batches, each) for each in found[page * size : (page + 1) * size]]
        return encoded({"object": "list", "data": data, "total": len(found)})
    if batch is None:
        return error("openai", 404, "No such job", "not_found")
    if step == "cancel" and not batches.cancel(batch):
        return error("openai", 400, f"The job is {batch.status}")
    return encoded(shown(batches, batch))


def _create(batches: Batches, config: Any, asked: Asked) -> Plan:
    if batches.fault(config, "refused_create"):
        return error("openai", 400, "This account may not use the Batch API")
    body = asked.json
    file = batches.files.get(body["input_files"][0])
    if file is None:
        return error("openai", 400, "No such file")
    batch = batches.add(
        config,
        "mistral",
        "job-{:08x}",
        file,
        [Line(each["custom_id"], {"model": body["model"], **each["body"]}) for each in lines_of(file.content)],
        endpoint=body["endpoint"],
        model=body["model"],
        mark=body.get("metadata") or {},
        key=asked.key,
    )
    return encoded(shown(batches, batch))


def shown(batches: Batches, batch: ProviderBatch) -> dict[str, Any]:
    """A provider batch as Mistral shows it."""
    output, errors = results(batches, batch)
    return {
        "id": batch.id,
        "object": "batch",
        "input_files": [batch.file.id],
        "endpoint": batch.endpoint,
        "model": batch.model,
        "metadata": batch.mark,
        "output_file": output,
        "error_file": errors,
        "errors": [{"message": batch.failure["message"], "count": 1}] if batch.failure else [],
        "status": _STATES[batch.status],
        "created_at": int(batch.created),
        "total_requests": len(batch.lines),
        "completed_requests": len(batch.outcomes),
        "succeeded_requests": batch.count(ok=True),
        "failed_requests": batch.count(ok=False),
        "started_at": None,
        "completed_at": int(batch.ended) if batch.ended else None,
        "shown_at": iso(batch.created),
    }
