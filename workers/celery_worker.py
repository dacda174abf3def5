"""Celery's command line without the commands of other packages: `python -m workers.celery_worker worker …`.

Celery imports every command that is installed before it looks at the one that was asked for: Flower's brings a web
server along, which costs each process 9 MB and 0.3 s of its start. `overnight` starts its workers and beat by this.
"""

import importlib.metadata
import sys
from typing import Any

from celery import maybe_patch_concurrency


def main() -> None:
    """Run Celery's command line."""
    maybe_patch_concurrency()  # as Celery's own does first: gevent comes before all other imports
    every = importlib.metadata.entry_points

    def but_commands(**selected: Any) -> Any:
        return () if selected.get("group") == "celery.commands" else every(**selected)

    importlib.metadata.entry_points = but_commands
    try:
        from celery.bin.celery import main as command_line  # noqa: PLC0415 - it is this import that loads them
    finally:
        importlib.metadata.entry_points = every
    # Celery looks for the application in the working folder first, where another project may have a workers.py.
    importlib.import_module("workers.celery")
    sys.exit(command_line())


if __name__ == "__main__":
    main()
