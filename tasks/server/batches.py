"""/v1/batches: the batches of a client. They are the same batches that `overnight status` and Flower show.

A client sees its own batches only. A request for another client's batch gets the same 404 as an unknown id.
"""

import time
from collections.abc import Iterable
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tasks.batches.acceptance import BatchRequest, accept, batch_id, request_of
from tasks.batches.batch import Batch
from tasks.server import fields, result_files
from tasks.server.batch_object import shown
from tasks.server.bodies import read_json
from tasks.server.clients import Client
from tasks.server.errors import bad_request, conflict, not_found
from tasks.server.pages import limit_of, listed, page
from tasks.server.resources import Resources, blocking, client_of, resources

#: Batches on one page: by default and at most.
_PAGE: Final = (20, 100)

#: Characters of an Idempotency-Key.
_LONGEST_KEY: Final = 255


async def create(request: Request) -> Response:
    """Create a batch: it is `validating` until a worker has checked its input."""
    shared, client = resources(request), client_of(request)
    body = await read_json(request)
    wanted = BatchRequest(
        input_file_id=fields.text(body, "input_file_id"),
        endpoint=fields.endpoint(body),
        completion_window=fields.text(body, "completion_window"),
        metadata=fields.metadata(body),
        output_expires_after=fields.output_expires_after(body),
    )
    workflow = client.workflow(wanted.metadata.get("workflow"))
    if words := shared.settings.refusal(workflow):
        raise bad_request(f"{words}.", "metadata.workflow", "unknown_workflow")
    once = request.headers.get("idempotency-key", "")
    if len(once) > _LONGEST_KEY:
        raise bad_request(f"An Idempotency-Key has at most {_LONGEST_KEY} characters.")
    batch = await blocking(_accept, shared, client, wanted, workflow, fields.window(body), once)
    return _json(shown(batch))


def _accept(shared: Resources, client: Client, wanted: BatchRequest, workflow: str, seconds: float, once: str) -> Batch:
    new_id = batch_id(client.name, once)
    if once and (made := shared.store.batch(new_id)):  # its input file may be gone by now
        return _the_same(made, wanted)
    upload = shared.uploads.find(wanted.input_file_id)
    if upload is None or upload.client != client.name:
        result = result_files.find(shared.store, wanted.input_file_id)
        if result is not None and result.batch.client == client.name:
            raise bad_request("The input file must have the purpose 'batch'.", "input_file_id", "invalid_purpose")
        raise not_found("No such File object.", "input_file_id", "file_not_found")
    now, after = time.time(), wanted.output_expires_after
    ids = [result_files.file_id(new_id, kind) for kind in result_files.KINDS]
    shared.uploads.announce(client.name, ids, now, now + after if after else 0.0)
    batch = accept(
        shared.store,
        wanted,
        batch_id=new_id,
        client=client.name,
        workflow=workflow,
        name=upload.filename,
        seconds=seconds,
    )
    return _the_same(batch, wanted)


def _the_same(batch: Batch, wanted: BatchRequest) -> Batch:
    """The batch, if it was created by an equal request; ApiError 409 if not."""
    if request_of(batch) != wanted:
        raise conflict("This Idempotency-Key was used for another request.", "Idempotency-Key")
    return batch


async def listing(request: Request) -> Response:
    """The client's batches, newest first."""
    shared, client = resources(request), client_of(request)
    default, largest = _PAGE

    def read(ids: list[str]) -> Iterable[Batch | None]:
        found = {batch.id: batch for batch in shared.store.records(ids)}
        return map(found.get, ids)

    found, more = await blocking(
        page,
        shared.store.client,
        shared.store.keys.client_batches(client.name),
        read,
        after=request.query_params.get("after"),
        limit=limit_of(request, default, largest),
    )
    return _json(listed([shown(each) for each in found], more=more))


async def retrieve(request: Request) -> Response:
    """One batch."""
    return _json(shown(await blocking(_find, request)))


async def cancel(request: Request) -> Response:
    """Cancel a batch: no further job starts, and calls in flight finish."""
    found = await blocking(_find, request)
    if found.over and found.status != "cancelled":
        raise bad_request(f"Cannot cancel a batch with status '{found.status}'.", "id", "batch_not_cancellable")
    if not found.over and found.stopping != "cancelled":
        found = await blocking(resources(request).store.stop, found, "cancelled")
        if found.status != "cancelled" and found.stopping != "cancelled":
            raise conflict(f"The batch is {found.shown_status}: it is about to end.", "id")
    return _json(shown(found))


def _find(request: Request) -> Batch:
    """The batch in the request's path; ApiError 404 if the client has no such batch."""
    found = resources(request).store.batch(request.path_params["batch_id"])
    if found is None or not found.request or found.client != client_of(request).name:
        raise not_found("No such Batch object.", "id")
    return found


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


ROUTES = [
    Route("/v1/batches", create, methods=["POST"]),
    Route("/v1/batches", listing, methods=["GET"]),
    Route("/v1/batches/{batch_id}", retrieve, methods=["GET"]),
    Route("/v1/batches/{batch_id}/cancel", cancel, methods=["POST"]),
]
