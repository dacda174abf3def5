"""How Overnight starts a Python process: it finds Overnight's packages, but no modules of the working folder."""

import os
import site
import sys
from pathlib import Path
from typing import Final

#: The folder that Overnight's packages are in.
ROOT: Final = Path(__file__).resolve().parent.parent


def command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module.

    `-P` keeps the working folder out of the import path: a tasks.py or orjson.py there must not run in a worker.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """This process's environment, in which Overnight's packages are found."""
    path = python_path()
    return {**os.environ, "PYTHONPATH": path} if path else dict(os.environ)


def python_path() -> str:
    """PYTHONPATH for such a process; '' if it needs none.

    If Overnight is installed, Python finds it anyway. The path could then harm an agent's own subprocess, which may run
    another Python.
    """
    given = os.environ.get("PYTHONPATH", "")
    if any(Path(folder).resolve() == ROOT for folder in [*site.getsitepackages(), site.getusersitepackages()]):
        return given
    return os.pathsep.join(filter(None, (str(ROOT), given)))
