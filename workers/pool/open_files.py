"""Raises the process's limit of open files: each call in flight needs a socket."""

import logging
import resource
from typing import Final

log = logging.getLogger(__name__)

#: Files that a process wants for each task at a time, and for everything else.
_FILES_A_TASK: Final = 4
_OTHER_FILES: Final = 1_024

#: Files beside the tasks' sockets, without which a warning is due.
_FEWEST_OTHERS: Final = 256


def allow_sockets(calls: int) -> None:
    """Raise the soft limit, often 1,024, to a few files for each of `calls`, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_A_TASK * calls + _OTHER_FILES
    if hard != resource.RLIM_INFINITY and wanted > hard:
        wanted = hard
        if hard < calls + _FEWEST_OTHERS:
            log.warning("%d tasks at a time may need more than %d open files; raise the limit (ulimit -n)", calls, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
