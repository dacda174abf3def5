"""Files in `storage`: a folder on this machine, or an object store that fsspec can reach.

    base.py    the methods of both, and their error
    local.py   a folder: a result is written at its offset in one file
    remote.py  an object store: each write is an object under `output.jsonl.parts/`, and `finish` joins them

Calls may be repeated: the same `write_at` and `finish` always leave the same file.
"""

from pathlib import Path
from uuid import uuid4

from tasks.jobs.storage.base import CHUNK, PIECE, Files, StorageError, Writing, file_system, message_of
from tasks.jobs.storage.local import LocalFiles
from tasks.jobs.storage.remote import RemoteFiles
from workers import private_files

__all__ = [
    "CHUNK",
    "PIECE",
    "Files",
    "LocalFiles",
    "RemoteFiles",
    "StorageError",
    "Writing",
    "file_system",
    "open_files",
    "probe",
]


def open_files(storage: str, name: str) -> Files:
    """The files below `name` in `storage`; StorageError if fsspec doesn't know the URL."""
    fs, root = file_system(storage)
    folder = f"{root.rstrip('/')}/{name}"
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    return LocalFiles(fs, folder) if "file" in protocols else RemoteFiles(fs, folder)


def probe(storage: str) -> None:
    """Write, read and remove a small file; StorageError says what fails."""
    try:
        files = open_files(storage, "")
        if isinstance(files, LocalFiles):  # in an object store this would make a bucket
            private_files.folder(Path(files.folder))
        path = files.path(f".probe-{uuid4().hex}")
        files.fs.pipe_file(path, b"probe")
        read = files.fs.cat_file(path)
        files.fs.rm_file(path)
    except Exception as exc:  # each object store's library has its own exception types
        raise StorageError(f"{storage} cannot be used: {message_of(exc)}") from exc
    if read != b"probe":
        raise StorageError(f"{storage} does not return what was written to it")
