"""Reads an upload: a multipart form with one file. It is written to the storage as it arrives, never held in memory."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from python_multipart.exceptions import FormParserError, MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from tasks.jobs.storage import PIECE, Writing
from tasks.server.errors import bad_request, too_large
from tasks.server.resources import blocking
from workers import plain_text

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

#: The most parts of a form; OpenAI's has four.
MAX_PARTS: Final = 32

#: The most bytes of a field's value. The parser limits the headers of a part itself.
MAX_FIELD: Final = 16 << 10

#: The most bytes of a form beside its file.
MAX_REST: Final = 1 << 20

#: Characters of a file's name that are kept.
MAX_NAME: Final = 255


@dataclass(slots=True)
class Form:
    """An upload: its fields, and the file's name and length if it has one."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    size: int = 0


async def read_form(request: Request, writing: Writing, limit: int) -> Form:
    """Read the form and write its `file` part to `writing`, which is not committed.

    ApiError 400 for a form that is broken or has two files, 413 if the file has more than `limit` bytes.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise bad_request("Send the file as multipart/form-data, with a boundary.")
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limit + MAX_REST:
        raise too_large(limit)
    parts = _Parts(limit)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
    except FormParserError as exc:
        raise bad_request(f"The boundary of the form is wrong: {exc}.") from None
    received = 0
    async for chunk in request.stream():
        try:
            parser.write(chunk)
        except MultipartParseError as exc:
            raise bad_request(f"The form is broken: {exc}.") from None
        received += len(chunk)
        if received - parts.form.size > MAX_REST:
            raise too_large(limit)
        if len(parts.pending) >= PIECE:
            await blocking(writing.write, parts.take())
    if not parts.ended:
        raise bad_request("The form ends too early: its last boundary is missing.")
    if parts.pending:
        await blocking(writing.write, parts.take())
    return parts.form


class _Parts:
    """Takes the parser's callbacks. `pending` are bytes of the file that are not written yet."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.form = Form()
        self.pending = bytearray()
        self.ended = False
        self._count = 0
        self._name = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._field: str | None = None
        self._text = bytearray()

    def callbacks(self) -> "MultipartCallbacks":
        """The callbacks by the parser's names for them."""
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def take(self) -> bytes:
        """The bytes to write next."""
        taken, self.pending = bytes(self.pending), bytearray()
        return taken

    def _part_begin(self) -> None:
        self._count += 1
        if self._count > MAX_PARTS:
            raise bad_request(f"The form has more than {MAX_PARTS} parts.")
        self._headers = {}
        self._field, self._text = None, bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name != "file":
            self._field = name
            return
        if self.form.filename is not None:
            raise bad_request("The form has more than one file.", "file")
        self.form.filename = _filename(options.get(b"filename", b""))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self.form.size += end - start
            if self.form.size > self.limit:
                raise too_large(self.limit)
            self.pending += data[start:end]
        else:
            self._text += data[start:end]
            if len(self._text) > MAX_FIELD:
                raise bad_request("A field of the form is too large.")

    def _part_end(self) -> None:
        if self._field is not None:
            self.form.fields[self._field] = self._text.decode("utf-8", "replace")

    def _end(self) -> None:
        self.ended = True


def _filename(raw: bytes) -> str:
    """A file's name without folders and control characters."""
    name = raw.decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
    return plain_text.plain(name).replace("\n", " ").strip()[:MAX_NAME] or "upload"
