"""/v1/files: uploads, and the results of batches.

A client sees its own files only. A request for another client's file gets the same 404 as an unknown id.
"""

import re
import time
from collections.abc import Generator
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tasks.batches.uploads import CONTENT, Upload
from tasks.jobs.storage import StorageError
from tasks.server import fields, result_files
from tasks.server.errors import bad_request, conflict, not_found
from tasks.server.multipart import Form, read_form
from tasks.server.pages import limit_of, listed, page
from tasks.server.resources import blocking, client_of, resources
from tasks.server.result_files import ResultFile

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

#: Seconds that an upload is kept if it sets no expiry, as at OpenAI.
KEEP: Final = 30 * 86_400

#: `Range: bytes=N-`.
_FROM: Final = re.compile(r"bytes=(\d{1,18})-")

#: Files on one page: by default and at most.
_MOST: Final = 10_000

File = Upload | ResultFile


async def create(request: Request) -> Response:
    """Upload a file."""
    shared, client = resources(request), client_of(request)
    file_id, writing = await blocking(shared.uploads.begin)
    try:
        form = await read_form(request, writing, shared.settings.server.max_upload_mb * 1_000_000)
        seconds = _checked(form)
        await blocking(writing.commit)
    except BaseException:
        await blocking(writing.abort)
        raise
    now = time.time()
    upload = Upload(file_id, client.name, "batch", form.filename or "", form.size, now, now + seconds)
    await blocking(shared.uploads.add, upload)
    return _json(shown(upload))


def _checked(form: Form) -> int:
    """The seconds for which an upload is kept; ApiError 400 if a field is wrong."""
    if form.filename is None:
        raise bad_request("Missing required parameter: 'file'.", "file", "missing_required_parameter")
    if "purpose" not in form.fields:
        raise bad_request("Missing required parameter: 'purpose'.", "purpose", "missing_required_parameter")
    if form.fields["purpose"] != "batch":
        raise bad_request('purpose must be "batch".', "purpose", "invalid_value")
    anchor, seconds = form.fields.get("expires_after[anchor]"), form.fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return KEEP
    number = int(seconds) if seconds and re.fullmatch(r"[0-9]{1,9}", seconds) else None
    return fields.expires_after(anchor, number, "expires_after")


async def listing(request: Request) -> Response:
    """The client's files, newest first."""
    order = request.query_params.get("order", "desc")
    if order not in {"asc", "desc"}:
        raise bad_request('order must be "asc" or "desc".', "order")
    return _json(await blocking(_page, request, limit_of(request, _MOST, _MOST), newest_first=order == "desc"))


def _page(request: Request, limit: int, *, newest_first: bool) -> dict[str, Any]:
    shared, client = resources(request), client_of(request)
    query = request.query_params
    purpose = query.get("purpose") or None

    def read(ids: list[str]) -> list[File | None]:
        uploads = shared.uploads.find_all(ids)
        results = result_files.find_all(shared.store, ids)
        both: list[File | None] = [
            upload or (result if result and result.listed else None)
            for upload, result in zip(uploads, results, strict=True)
        ]
        return [each if each and purpose in {None, _purpose(each)} else None for each in both]

    key = shared.store.keys.client_files(client.name)
    after = query.get("after")
    found: tuple[list[File], bool] = page(
        shared.store.client, key, read, after=after, limit=limit, newest_first=newest_first
    )
    return listed([shown(each) for each in found[0]], more=found[1])


async def retrieve(request: Request) -> Response:
    """One file."""
    return _json(await blocking(lambda: shown(_find(request))))


async def content(request: Request) -> Response:
    """A file's bytes; `Range: bytes=N-` for the rest. The results of a running batch are marked as incomplete."""
    found = await blocking(_find, request)
    sizes = await blocking(found.sizes) if isinstance(found, ResultFile) else [found.bytes]
    total = sum(sizes)
    complete = not isinstance(found, ResultFile) or found.complete
    headers = {
        "accept-ranges": "bytes",
        "content-disposition": f'attachment; filename="{_ascii(found.filename)}"',
        "x-content-type-options": "nosniff",
    }
    if not complete:
        headers |= {"x-incomplete": "true", "x-next-offset": str(total), "cache-control": "no-store"}
    offset = _offset(request)
    if offset >= total and offset:
        return Response(status_code=416, headers={**headers, "content-range": f"bytes */{total}"})
    if offset:
        headers["content-range"] = f"bytes {offset}-{total - 1}/{total if complete else '*'}"
    headers["content-length"] = str(total - offset)
    if request.method == "HEAD":
        return Response(status_code=206 if offset else 200, headers=headers)
    reading = _bytes(request, found, sizes, offset)
    # Read the first piece before the response begins: if the content is gone, the client gets a 404.
    first = await blocking(next, reading, b"")
    return _Download(first, reading, 206 if offset else 200, headers)


class _Download(StreamingResponse):
    """A file's bytes. Closes the file when the response ends, even if the client hangs up in the middle."""

    def __init__(self, first: bytes, rest: Generator[bytes], status: int, headers: dict[str, str]) -> None:
        super().__init__(chain((first,), rest), status, headers, media_type="application/octet-stream")
        self.rest = rest

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.rest.close()


def _bytes(request: Request, found: File, sizes: list[int], offset: int) -> Generator[bytes]:
    if isinstance(found, ResultFile):
        return found.read(sizes, offset)
    return resources(request).uploads.content(found).read(CONTENT, found.bytes, offset)


def _offset(request: Request) -> int:
    """Where the client wants to begin. Only `bytes=N-` is supported; with any other range it gets the whole file."""
    match = _FROM.fullmatch(request.headers.get("range", ""))
    return int(match[1]) if match else 0


async def delete(request: Request) -> Response:
    """Remove a file. The results of a running batch cannot be removed."""
    found = await blocking(_find, request)
    shared = resources(request)
    if isinstance(found, ResultFile):
        if not found.complete:
            raise conflict("This file is still being written: cancel its batch, or wait until it has ended.")
        await blocking(found.remove, shared.store)
    else:
        await blocking(shared.uploads.remove, found)
    return _json({"id": found.id, "object": "file", "deleted": True})


def _find(request: Request) -> File:
    """The file in the request's path; ApiError 404 if the client has no such file."""
    shared, client = resources(request), client_of(request)
    file_id = request.path_params["file_id"]
    found: File | None = shared.uploads.find(file_id) or result_files.find(shared.store, file_id)
    owner = None if found is None else found.batch.client if isinstance(found, ResultFile) else found.client
    if found is None or owner != client.name or (isinstance(found, ResultFile) and not found.batch.request):
        raise not_found("No such File object.", "id")
    return found


def _purpose(file: File) -> str:
    return "batch_output" if isinstance(file, ResultFile) else file.purpose


def shown(file: File) -> dict[str, Any]:
    """OpenAI's file object."""
    try:
        size = sum(file.sizes()) if isinstance(file, ResultFile) else file.bytes
    except StorageError:
        size = 0
    return {
        "id": file.id,
        "object": "file",
        "bytes": size,
        "created_at": int(file.created),
        "expires_at": int(file.expires) or None,
        "filename": file.filename,
        "purpose": _purpose(file),
        "status": "processed",
        "status_details": None,
    }


def _ascii(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._ -]", "_", name)


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


ROUTES = [
    Route("/v1/files", create, methods=["POST"]),
    Route("/v1/files", listing, methods=["GET"]),
    Route("/v1/files/{file_id}", retrieve, methods=["GET"]),
    Route("/v1/files/{file_id}", delete, methods=["DELETE"]),
    Route("/v1/files/{file_id}/content", content, methods=["GET"]),
]
