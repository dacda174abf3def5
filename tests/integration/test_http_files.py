"""Uploads: streamed, bounded, in any order of fields; hostile forms; crashes; expiry."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from openai import OpenAI

from limits.client.connection import Server
from tasks.batches.store import Store
from tasks.batches.uploads import Uploads
from tests.support.api import CLIENTS, Api, api_fixture, sdk_fixture, served
from tests.support.fixtures import site_fixture
from tests.support.site import Site, wait_for

MB = 1_000_000

BOUNDARY = "marzipan"


site = site_fixture(tables=f"{CLIENTS}\n[server]\nmax_upload_mb = 300\n")
api = api_fixture()
sdk = sdk_fixture()


def stored(site: Site) -> set[Path]:
    """Every file of uploads in the storage, temporary ones too."""
    return {path for path in (site.folder / ".overnight" / "files" / "files").rglob("*") if path.is_file()}


def field(name: str, value: bytes, more: str = "") -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def file(content: bytes, name: str = "in.jsonl") -> bytes:
    return field("file", content, f'; filename="{name}"')


PURPOSE, END = field("purpose", b"batch"), f"--{BOUNDARY}--\r\n".encode()


def post(api: Api, body: bytes, kind: str = f"multipart/form-data; boundary={BOUNDARY}") -> httpx.Response:
    with api.http() as client:
        return client.post("files", content=body, headers={"content-type": kind})


@pytest.mark.parametrize("body", [PURPOSE + file(b"one\n") + END, file(b"one\n") + PURPOSE + END])
def test_fields_may_come_before_and_after_the_file(api: Api, body: bytes) -> None:
    answer = post(api, body)
    assert answer.status_code == 200, answer.text
    with api.http() as client:
        assert client.get(f"files/{answer.json()['id']}/content").content == b"one\n"


def test_bytes_that_look_like_a_boundary_belong_to_the_file(api: Api) -> None:
    content = f"\r\n--{BOUNDARY}x\r\n--marzi\r\n\r\n--{BOUNDARY[:-1]}--\r\n".encode() * 1000
    answer = post(api, file(content) + PURPOSE + END)
    with api.http() as client:
        assert client.get(f"files/{answer.json()['id']}/content").content == content


HOSTILE = {
    "no end": (PURPOSE + file(b"one\n"), 400),
    "no body": (b"", 400),
    "only the end": (END, 400),
    "no purpose": (file(b"one\n") + END, 400),
    "no file": (PURPOSE + END, 400),
    "wrong purpose": (field("purpose", b"assistants") + file(b"one\n") + END, 400),
    "two files": (PURPOSE + file(b"one\n") + file(b"two\n") + END, 400),
    "a file without a disposition": (PURPOSE + f"--{BOUNDARY}\r\n\r\none\r\n".encode() + END, 400),
    "a header without end": (f"--{BOUNDARY}\r\nContent-Disposition: ".encode() + b"a" * 100_000, 400),
    "very many headers": (f"--{BOUNDARY}\r\n".encode() + b"X-A: b\r\n" * 10_000 + b"\r\n" + END, 400),
    "very many parts": (PURPOSE * 10_000 + END, 400),
    "a large field": (field("purpose", b"b" * 100_000) + END, 400),
    "another boundary": (PURPOSE.replace(b"marzipan", b"nougat") + END, 400),
    "not a form": (b'{"file": "x"}', 400),
    "zeros": (b"\0" * 100_000, 400),
    "a wrong expiry": (PURPOSE + field("expires_after[seconds]", b"5") + file(b"one\n") + END, 400),
    "an expiry that is no number": (
        PURPOSE
        + field("expires_after[anchor]", b"created_at")
        + field("expires_after[seconds]", b"\xff")
        + file(b"")
        + END,
        400,
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_broken_form_gets_400_and_leaves_nothing(api: Api, site: Site, name: str) -> None:
    body, status = HOSTILE[name]
    before = stored(site)
    answer = post(api, body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert stored(site) == before


KINDS = [
    "",
    *("multipart/form-data" + more for more in ("", "; boundary=", "; boundary=" + "x" * 300)),
    "application/json",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_that_is_no_form_gets_400(api: Api, kind: str) -> None:
    assert post(api, PURPOSE + file(b"one\n") + END, kind).status_code == 400


NAMES = {
    "../../etc/passwd": "passwd",
    "C:\\\\in.jsonl": "in.jsonl",
    "a\x1b[2Jb": "a\ufffd[2Jb",
    "": "upload",
    "x" * 999: "x" * 255,
}


@pytest.mark.parametrize(("sent", "shown"), NAMES.items())
def test_a_files_name_is_a_name_only(api: Api, sent: str, shown: str) -> None:
    answer = post(api, PURPOSE + file(b"one\n", sent) + END)
    assert answer.json()["filename"] == shown
    with api.http() as client:
        assert client.get(f"files/{answer.json()['id']}/content").status_code == 200


@pytest.mark.parametrize(
    "name", ["file-", "file-" + "0" * 32, "..%2f..%2fetc", "%00", "a" * 5000, "file-" + "0" * 24 + "-output"]
)
def test_an_id_that_names_nothing_gets_404(api: Api, name: str) -> None:
    with api.http() as client:
        for path in (f"files/{name}", f"files/{name}/content", f"batches/{name}"):
            assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=10001", "limit=x", "limit=-1", "order=up", "after=file-1", "limit=" + "9" * 99]
)
def test_a_list_with_a_wrong_query_gets_400(api: Api, query: str) -> None:
    with api.http() as client:
        assert client.get(f"files?{query}").status_code == 400


def test_part_of_a_file_can_be_read(api: Api) -> None:
    name = post(api, PURPOSE + file(b"0123456789") + END).json()["id"]
    with api.http() as client:
        rest = client.get(f"files/{name}/content", headers={"range": "bytes=4-"})
        assert (rest.status_code, rest.content, rest.headers["content-range"]) == (206, b"456789", "bytes 4-9/10")
        assert client.get(f"files/{name}/content", headers={"range": "bytes=10-"}).status_code == 416
        assert client.get(f"files/{name}/content", headers={"range": "bytes=2-3"}).content == b"0123456789"
        assert client.head(f"files/{name}/content").headers["content-length"] == "10"


def test_an_upload_expires_as_it_says(sdk: OpenAI, site: Site) -> None:
    made = sdk.files.create(
        file=("in.jsonl", b"one\n"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert made.expires_at == made.created_at + 3600
    with site.client() as client:
        key = site.keys.file(made.id)
        client.hset(key, "expires", repr(time.time() - 1))
        client.zadd(site.keys.expiring_files, {made.id: time.time() - 1})
        with pytest.raises(openai.NotFoundError):
            sdk.files.retrieve(made.id)
        assert made.id not in [each.id for each in sdk.files.list()]
        uploads = Uploads(Store(site.keys, Server(client)), f"file://{site.folder}/.overnight/files")
        uploads.sweep(lambda _id, _now: None)
        assert not client.exists(key)
    assert not (site.folder / ".overnight" / "files" / "files" / made.id).exists()


class Pieces:
    """A form with a file of `size` bytes, made while it is read."""

    def __init__(self, size: int, pause: threading.Event | None = None) -> None:
        self.size = size
        self.pause = pause
        self.sent = 0

    def __iter__(self) -> Iterator[bytes]:
        yield PURPOSE + file(b"")[:-2]
        line = b"x" * 999 + b"\n"
        while self.sent < self.size:
            yield line * 100
            self.sent += 100_000
            if self.pause is not None and self.sent >= self.size // 2:
                self.pause.wait(30)
        yield b"\r\n" + END


def send(api: Api, pieces: Pieces, length: int | None = None) -> httpx.Response:
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    if length is not None:
        headers["content-length"] = str(length)
    with api.http() as client:
        return client.post("files", content=iter(pieces), headers=headers)


@pytest.mark.long
def test_200_mb_are_uploaded_in_100_mb_of_memory(api: Api) -> None:
    before = api.process.peak()
    answer = send(api, Pieces(200 * MB))
    assert answer.status_code == 200
    assert answer.json()["bytes"] == 200 * MB
    assert api.process.peak() - before < 40 * MB
    assert api.process.peak() < 200 * MB
    with api.http() as client:
        with client.stream("GET", f"files/{answer.json()['id']}/content") as reading:
            assert sum(map(len, reading.iter_bytes())) == 200 * MB
        client.delete(f"files/{answer.json()['id']}")
    assert api.process.peak() - before < 40 * MB


@pytest.mark.long
@pytest.mark.parametrize("stated", [True, False])
def test_2_gb_are_refused_at_the_limit_without_filling_disk_or_memory(api: Api, site: Site, stated: bool) -> None:
    before, kept = api.process.peak(), stored(site)
    pieces = Pieces(2_000 * MB)
    length = len(PURPOSE + file(b"") + END) + pieces.size if stated else None
    answer = send(api, pieces, length)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"
    assert stored(site) == kept
    assert api.process.peak() - before < 40 * MB


@pytest.mark.long
def test_a_server_that_is_killed_during_an_upload_leaves_nothing_visible_and_nothing_for_ever(site: Site) -> None:
    kept = stored(site)
    pause = threading.Event()
    with served(site) as one:
        pieces = Pieces(20 * MB, pause)
        broken: list[Exception] = []

        def upload() -> None:
            try:
                send(one, pieces)
            except httpx.TransportError as exc:
                broken.append(exc)

        thread = threading.Thread(target=upload)
        thread.start()
        wait_for(lambda: stored(site) - kept, what="a file that is being written")
        one.process.kill()
        pause.set()
        thread.join(30)
    assert broken
    left = stored(site) - kept
    assert len(left) == 1
    assert next(iter(left)).name.endswith(".tmp")
    with served(site) as two, two.sdk() as sdk, site.client() as client:
        names = {each.id for each in sdk.files.list()}
        assert next(iter(left)).parent.name not in names
        uploads = Uploads(Store(site.keys, Server(client)), f"file://{site.folder}/.overnight/files")
        client.zadd(site.keys.expiring_files, {next(iter(left)).parent.name: 1.0}, xx=True)
        uploads.sweep(lambda _id, _now: None)
    assert stored(site) == kept


@pytest.mark.long
def test_what_was_acknowledged_survives_kill_9_of_the_server(site: Site) -> None:
    with served(site) as one, one.sdk() as sdk:
        name = sdk.files.create(file=("in.jsonl", b"one\n"), purpose="batch").id
        batch = sdk.batches.create(input_file_id=name, endpoint="/v1/embeddings", completion_window="24h").id
        one.process.kill()
    with served(site) as two, two.sdk() as sdk:
        assert sdk.files.content(name).content == b"one\n"
        assert sdk.batches.retrieve(batch).status == "validating"
        site.start_worker()
        found = wait_for(lambda: (it := sdk.batches.retrieve(batch)).status == "failed" and it)
        assert found.errors.data[0].code == "invalid_json_line"
