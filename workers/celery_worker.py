"""Celery's command line without other packages' commands: `python -m workers.celery_worker worker …`.

Celery imports every installed command before it looks at the one that is run. Flower's brings a web server, which costs
each process 9 MB and 0.3 s at start. `overnight` starts its workers and beat with this module.
"""

import importlib.metadata
import sys
from typing import Any

from celery import maybe_patch_concurrency


def main() -> None:
    """Run Celery's command line."""
    maybe_patch_concurrency()  # as in Celery's own: gevent must patch before all other imports
    every = importlib.metadata.entry_points

    def but_commands(**selected: Any) -> Any:
        return () if selected.get("group") == "celery.commands" else every(**selected)

    importlib.metadata.entry_points = but_commands
    try:
        from celery.bin.celery import main as command_line  # noqa: PLC0415 - this import loads the commands
    finally:
        importlib.metadata.entry_points = every
    # Celery would first look for the application in the working folder, which may contain another workers.py.
    importlib.import_module("workers.celery")
    sys.exit(command_line())


if __name__ == "__main__":
    main()
