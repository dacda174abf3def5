"""Gemini's Batch API: resumable uploads, operations, and lines of generateContent."""

from typing import Any

import orjson

from tests.simulator.batch_anthropic import iso, lines_of
from tests.simulator.batch_objects import Asked, File, Line
from tests.simulator.batch_openai import encoded
from tests.simulator.batches import Batches, ProviderBatch
from tests.simulator.faults import Plan

_STATES = {
    "validating": "BATCH_STATE_PENDING",
    "in_progress": "BATCH_STATE_RUNNING",
    "cancelling": "BATCH_STATE_RUNNING",
    "completed": "BATCH_STATE_SUCCEEDED",
    "failed": "BATCH_STATE_FAILED",
    "expired": "BATCH_STATE_EXPIRED",
    "cancelled": "BATCH_STATE_CANCELLED",
}
_WORDS = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}


def handle(batches: Batches, config: Any, asked: Asked) -> Plan | None:
    """Answer a request; None if it isn't one of this Batch API."""
    path = asked.path
    if path.startswith("/upload/v1beta/files"):
        step = "upload" if "upload_id" in asked.query else "begin_upload"
    elif path.startswith("/download/v1beta/"):
        step = "content"
    elif path.startswith("/v1beta/files/"):
        step = "delete"
    elif path.startswith("/v1beta/models/") and path.endswith(":batchGenerateContent"):
        step = "create"
    elif path.startswith("/v1beta/batches"):
        step = "cancel" if path.endswith(":cancel") else "list" if path == "/v1beta/batches" else "get"
    else:
        return None
    if (refusal := batches.refusal(config, "gemini", step)) is not None:
        return refusal
    return batches.lost(config, step, _made(batches, config, asked, step))


def _made(batches: Batches, config: Any, asked: Asked, step: str) -> Plan:
    match step:
        case "begin_upload":
            address = (
                f"http://{asked.headers['host']}/upload/v1beta/files?upload_id={asked.json['file']['display_name']}"
            )
            return Plan(body=b"{}", headers={"x-goog-upload-url": address, "x-goog-upload-status": "active"})
        case "upload":
            file = batches.keep(asked.query["upload_id"], asked.content, prefix="files/")
            return encoded({"file": {"name": file.id, "displayName": file.name, "sizeBytes": str(len(file.content))}})
        case "content":
            name = asked.path.removeprefix("/download/v1beta/").removesuffix(":download")
            if name in batches.files:
                return Plan(body=batches.files[name].content, headers={"content-type": "application/octet-stream"})
        case "delete":
            if batches.files.pop(asked.path.removeprefix("/v1beta/"), None):
                return encoded({})
        case "create":
            return _create(batches, config, asked)
        case "list":
            return _listed(batches, asked)
        case _:
            batch = batches.batches.get(asked.path.removeprefix("/v1beta/").removesuffix(":cancel"))
            if batch is not None and step == "cancel":
                batches.cancel(batch)
                return encoded({})
            if batch is not None:
                return encoded(shown(batches, batch))
    return refused(404, "Not found")


def refused(status: int, words: str) -> Plan:
    """An error as Google writes it."""
    plan = encoded({"error": {"code": status, "message": words, "status": _WORDS[status]}})
    plan.status = status
    return plan


def _create(batches: Batches, config: Any, asked: Asked) -> Plan:
    if batches.fault(config, "refused_create"):
        return refused(400, "The free tier has no batches")
    model = asked.path.removeprefix("/v1beta/models/").removesuffix(":batchGenerateContent")
    body = asked.json["batch"]
    file = batches.files.get(body["inputConfig"]["fileName"])
    if file is None:
        return refused(400, "No such file")
    batch = batches.add(
        config,
        "gemini",
        "batches/{:08x}",
        file,
        [Line(each["key"], _chat(model, each["request"])) for each in lines_of(file.content)],
        endpoint="/v1beta/generateContent",
        model=model,
        mark=body["displayName"],
        key=asked.key,
    )
    return encoded(shown(batches, batch))


def _chat(model: str, request: dict[str, Any]) -> dict[str, Any]:
    """The request as the answers are made of: a chat."""
    said = request["contents"][-1]["parts"][-1]
    chat: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": said.get("text", "")}]}
    settings = request.get("generationConfig", {})
    if "maxOutputTokens" in settings:
        chat["max_tokens"] = settings["maxOutputTokens"]
    if "candidateCount" in settings:
        chat["n"] = settings["candidateCount"]
    for tool in request.get("tools", []):
        chat["tools"] = [
            {"function": {"name": each["name"], "parameters": each.get("parametersJsonSchema")}}
            for each in tool["functionDeclarations"]
        ]
    return chat


def _listed(batches: Batches, asked: Asked) -> Plan:
    found = [each for each in batches.of_key(asked.key) if each.api == "gemini"]
    size, begin = int(asked.query.get("pageSize", 50)), int(asked.query.get("pageToken") or 0)
    page: dict[str, Any] = {"operations": [shown(batches, each) for each in found[begin : begin + size]]}
    if len(found) > begin + size:
        page["nextPageToken"] = str(begin + size)
    return encoded(page)


def shown(batches: Batches, batch: ProviderBatch) -> dict[str, Any]:
    """A provider batch as an operation."""
    done = bool(batch.ended) and not batch.late
    stats = {"requestCount": str(len(batch.lines)), "successfulRequestCount": str(batch.count(ok=True))}
    metadata = {
        "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
        "name": batch.id,
        "displayName": batch.mark,
        "model": f"models/{batch.model}",
        "state": _STATES[batch.status],
        "createTime": iso(batch.created),
        "batchStats": stats,
        "inputConfig": {"fileName": batch.file.id},
    }
    operation: dict[str, Any] = {"name": batch.id, "metadata": metadata, "done": done}
    if batch.failure:
        operation["error"] = {"code": 3, "message": batch.failure["message"]}
    if done and batch.count(ok=True) + batch.count(ok=False) and batch.status != "expired":
        file_id = f"files/batch-{batch.number}"
        if file_id not in batches.files:
            rows = [{"key": each.line.custom_id, **_result(each)} for each in batch.outcomes]
            batches.files[file_id] = File(file_id, "results", batch.content(rows))
        operation["response"] = {"responsesFile": file_id}
        metadata["output"] = {"responsesFile": file_id}
    return operation


def _result(each: Any) -> dict[str, Any]:
    if each.answer is None:
        code = {0: 1, 400: 3, 429: 8, 500: 13}[each.status]
        return {"error": {"code": code, "message": each.words or "cancelled"}}
    usage = each.answer["usage"]
    return {
        "response": {
            "candidates": [_candidate(choice) for choice in each.answer["choices"]],
            "usageMetadata": {
                "promptTokenCount": usage["prompt_tokens"],
                "candidatesTokenCount": usage["completion_tokens"],
                "cachedContentTokenCount": usage["prompt_tokens_details"]["cached_tokens"],
                "totalTokenCount": usage["total_tokens"],
            },
            "modelVersion": each.answer["model"],
            "responseId": each.answer["id"],
        }
    }


def _candidate(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice["message"]
    parts: list[dict[str, Any]] = [{"text": message["content"]}] if message["content"] else []
    for call in message.get("tool_calls", []):
        function = call["function"]
        parts.append({"functionCall": {"name": function["name"], "args": orjson.loads(function["arguments"])}})
    reason = "MAX_TOKENS" if choice["finish_reason"] == "length" else "STOP"
    return {"content": {"role": "model", "parts": parts}, "finishReason": reason, "index": choice["index"]}
