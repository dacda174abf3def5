"""A worker imports the agents before it takes its first job: what is wrong with a module is told at once, in words."""

import sys
from typing import Any

from celery.signals import worker_init

from tasks.agents import registry
from workers.celery import current_settings
from workers.settings import SettingsError

#: The exit status of a wrong configuration, as the command line has it.
_WRONG = 2


@worker_init.connect  # type: ignore[untyped-decorator]  # Celery has no types
def load_agents(**_: Any) -> None:
    """Import every agent; the worker ends where that cannot be done."""
    try:
        registry.load(current_settings())
    except SettingsError as exc:
        sys.stderr.write(f"{exc}\n")
        sys.stderr.flush()
        raise SystemExit(_WRONG) from None
