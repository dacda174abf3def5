"""Anthropic's Message Batches: the lines are in the create itself, and a provider batch has no name."""

from datetime import UTC, datetime
from typing import Any

import orjson

from tests.simulator.batch_objects import Asked, File, Line
from tests.simulator.batch_openai import encoded
from tests.simulator.batches import Batches, ProviderBatch
from tests.simulator.faults import Plan, error

PREFIX = "/v1/messages/batches"
_STATES = {"cancelling": "canceling", "completed": "ended", "cancelled": "ended", "expired": "ended", "failed": "ended"}


def handle(batches: Batches, config: Any, asked: Asked) -> Plan | None:
    """Answer a request; None if it isn't one of this Batch API."""
    if not asked.path.startswith(PREFIX):
        return None
    if "anthropic-version" not in asked.headers:
        return error("anthropic", 400, "anthropic-version is required")
    name, _, action = asked.path.removeprefix(PREFIX).strip("/").partition("/")
    batch = batches.batches.get(name)
    match asked.method, action:
        case "POST", "" if not name:
            step = "create"
        case "GET", "" if not name:
            step = "list"
        case _:
            step = {"": "get", "cancel": "cancel", "results": "content"}.get(action, "")
    if asked.method == "DELETE":
        step = "delete"
    if (refusal := batches.refusal(config, "anthropic", step)) is not None:
        return refusal
    return batches.lost(config, step, _made(batches, config, asked, step, batch))


def _made(batches: Batches, config: Any, asked: Asked, step: str, batch: ProviderBatch | None) -> Plan:
    if step == "create":
        return _create(batches, config, asked)
    if step == "list":
        return _listed(batches, asked)
    if batch is None or batch.fault.get("removed"):
        return error("anthropic", 404, "No such batch")
    match step:
        case "get":
            return encoded(shown(batch))
        case "cancel":
            batches.cancel(batch)
            return encoded(shown(batch))
        case "content" if batch.ended and not batch.late:
            rows = [{"custom_id": each.line.custom_id, "result": _result(batch, each)} for each in batch.outcomes]
            return Plan(body=batch.content(rows), headers={"content-type": "application/x-jsonl"})
        case "delete" if batch.ended:
            batch.fault["removed"] = True
            return encoded({"id": batch.id, "type": "message_batch_deleted"})
    return error("anthropic", 400, f"The batch is {batch.status}")


def _create(batches: Batches, config: Any, asked: Asked) -> Plan:
    if batches.fault(config, "refused_create"):
        return error("anthropic", 400, "This account may not use the Batch API")
    found = asked.json["requests"]
    if any(each["params"].get("stream") for each in found):
        return error("anthropic", 400, "stream is not supported in batches")
    batch = batches.add(
        config,
        "anthropic",
        "msgbatch_{:08x}",
        File("", "", b""),
        [Line(each["custom_id"], each["params"]) for each in found],
        endpoint="/v1/messages",
        model=found[0]["params"]["model"],
        mark=None,
        key=asked.key,
    )
    return encoded(shown(batch))


def _listed(batches: Batches, asked: Asked) -> Plan:
    found = [each for each in batches.of_key(asked.key) if each.api == "anthropic" and not each.fault.get("removed")]
    if after := asked.query.get("after_id"):
        found = found[[each.id for each in found].index(after) + 1 :]
    limit = int(asked.query.get("limit", 20))
    data = [shown(each) for each in found[:limit]]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return encoded({"data": data, "has_more": len(found) > limit, **ends})


def _result(batch: ProviderBatch, each: Any) -> dict[str, Any]:
    if each.status == 0:
        return {"type": "expired" if batch.status == "expired" else "canceled"}
    if each.answer is None:
        kind = {400: "invalid_request_error", 429: "rate_limit_error"}.get(each.status, "api_error")
        body = {"type": "error", "error": {"type": kind, "message": each.words}, "request_id": "req_simulated"}
        return {"type": "errored", "error": body}
    usage = {**each.answer["usage"], "service_tier": "batch"}
    return {"type": "succeeded", "message": {**each.answer, "usage": usage}}


def shown(batch: ProviderBatch) -> dict[str, Any]:
    """A provider batch as Anthropic shows it."""
    ended = bool(batch.ended) and not batch.late
    waits = sum(each.status == 0 for each in batch.outcomes)
    counts = {
        "processing": 0 if ended else len(batch.lines),
        "succeeded": batch.count(ok=True) if ended else 0,
        "errored": batch.count(ok=False) - waits if ended else 0,
        "canceled": waits if ended and batch.status == "cancelled" else 0,
        "expired": waits if ended and batch.status == "expired" else 0,
    }
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": _STATES.get(batch.status, "in_progress") if ended or not batch.ended else "in_progress",
        "request_counts": counts,
        "created_at": iso(batch.created),
        "expires_at": iso(batch.created + 86_400),
        "ended_at": iso(batch.ended) if ended else None,
        "cancel_initiated_at": iso(batch.cancelled) if batch.cancelled else None,
        "archived_at": None,
        "results_url": f"https://elsewhere.invalid{PREFIX}/{batch.id}/results" if ended else None,
    }


def iso(at: float) -> str:
    """A time as Anthropic and Google write it."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def lines_of(content: bytes) -> list[Any]:
    """The values of a file of JSON lines."""
    return [orjson.loads(each) for each in content.splitlines()]
