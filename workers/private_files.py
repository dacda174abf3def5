"""Files and folders that only their owner can read, whatever the umask: prompts and answers are in them."""

import os
from pathlib import Path
from typing import BinaryIO


def folder(path: Path) -> None:
    """Make a folder, and those above it that are missing. One that is there stays as it is."""
    for each in reversed((path, *path.parents)):
        if not each.is_dir():
            each.mkdir(mode=0o700, exist_ok=True)


def create(path: Path) -> BinaryIO:
    """A new file, open for writing."""
    return open(path, "xb", opener=_opener)


def append(path: Path) -> BinaryIO:
    """A file, open at its end."""
    return open(path, "ab", opener=_opener)


def _opener(path: str, flags: int) -> int:
    handle = os.open(path, flags, 0o600)
    if os.fstat(handle).st_mode & 0o077:  # an older one that others could read
        os.fchmod(handle, 0o600)
    return handle
