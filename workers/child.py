"""How Overnight starts a Python process of its own: it finds Overnight, and never the working folder's modules."""

import os
import sys
from pathlib import Path


def command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module.

    `-P` keeps the working folder out of the import path: a tasks.py or orjson.py there must not run in a worker.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """This process's environment, in which Overnight's packages are found first."""
    return {**os.environ, "PYTHONPATH": python_path()}


def python_path() -> str:
    """PYTHONPATH for such a process."""
    root = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
