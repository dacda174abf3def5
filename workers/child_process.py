"""How Overnight starts a Python process of its own: it finds Overnight, and never the working folder's modules."""

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
    """PYTHONPATH for such a process; '' for none.

    Installed packages are found without: in an agent's own subprocess, perhaps of another Python, the path would harm.
    """
    given = os.environ.get("PYTHONPATH", "")
    if any(Path(folder).resolve() == ROOT for folder in [*site.getsitepackages(), site.getusersitepackages()]):
        return given
    return os.pathsep.join(filter(None, (str(ROOT), given)))
