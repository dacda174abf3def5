"""Files and folders that only their owner can read, whatever the umask: they contain prompts and answers."""

import os
from pathlib import Path
from typing import BinaryIO


def folder(path: Path) -> None:
    """Make a folder and its missing parents. Existing folders keep their mode."""
    for each in reversed((path, *path.parents)):
        if not each.is_dir():
            each.mkdir(mode=0o700, exist_ok=True)


def create(path: Path) -> BinaryIO:
    """Open a new file for writing. Raises FileExistsError if it exists."""
    return open(path, "xb", opener=_opener)


def append(path: Path) -> BinaryIO:
    """Open a file at its end."""
    return open(path, "ab", opener=_opener)


def _opener(path: str, flags: int) -> int:
    handle = os.open(path, flags, 0o600)
    if os.fstat(handle).st_mode & 0o077:  # an existing file that others can read
        os.fchmod(handle, 0o600)
    return handle
