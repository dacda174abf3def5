"""OpenAI's batch object, with Overnight's own fields under `overnight`."""

from typing import Any

import orjson

from limits.budget import NANO
from tasks.batches.acceptance import request_of
from tasks.batches.batch import Batch
from tasks.jobs.job import AGENTS
from tasks.server.result_files import KINDS, ResultFile


def shown(batch: Batch) -> dict[str, Any]:
    """The object of a batch that came over HTTP."""
    request = request_of(batch)
    assert request is not None
    files = {kind: ResultFile(batch, kind) for kind in KINDS}
    problems = orjson.loads(batch.problems) if batch.problems else None
    models = {target.partition("/")[2] for target in batch.targets}
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": request.endpoint,
        "model": models.pop() if len(models) == 1 else None,
        "errors": {"object": "list", "data": problems} if problems else None,
        "input_file_id": request.input_file_id,
        "completion_window": request.completion_window,
        "status": batch.shown_status,
        "output_file_id": _id(files["output"]),
        "error_file_id": _id(files["errors"]),
        **_times(batch),
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "usage": _usage(batch, request.endpoint),
        "metadata": request.metadata or None,
        "overnight": {
            "workflow": batch.workflow,
            "cost_usd": batch.cost / NANO,
            "output_file_id": files["output"].id,
            "error_file_id": files["errors"].id,
            "trouble": batch.trouble or None,
        },
    }


def _id(file: ResultFile) -> str | None:
    """The file's id once it is complete, if it has a line."""
    return file.id if file.listed else None


def _times(batch: Batch) -> dict[str, int | None]:
    """When it reached each status, in seconds since the epoch."""
    ended = {f"{status}_at": batch.status == status for status in ("completed", "failed", "expired", "cancelled")}
    return {
        "created_at": int(batch.created),
        "in_progress_at": int(batch.began) or None,
        "expires_at": int(batch.deadline) or None,
        "finalizing_at": int(batch.finalizing) or None,
        "cancelling_at": int(batch.cancelling) or None,
        **{name: int(batch.ended) if so else None for name, so in ended.items()},
    }


def _usage(batch: Batch, endpoint: str) -> dict[str, Any]:
    """The tokens of its answers so far. The details of an agent's calls are not known."""
    details = {
        "input_tokens_details": {"cached_tokens": batch.cached_tokens},
        "output_tokens_details": {"reasoning_tokens": batch.reasoning_tokens},
    }
    return {
        "input_tokens": batch.input_tokens,
        "output_tokens": batch.output_tokens,
        "total_tokens": batch.input_tokens + batch.output_tokens,
        **({} if endpoint.startswith(AGENTS) else details),
    }
