"""Python runs this at the start of every process that has its folder on the path: a fault in the middle of a write.

The process that writes next to a batch's output, once the file named by OVERNIGHT_FAULT is there, writes half of its
bytes and is killed; if that file says "stop", it is stopped, and writes all of them when it wakes up.
"""

import os
import signal
from contextlib import suppress
from typing import Any

_pwrite = os.pwrite
_order = os.environ.get("OVERNIGHT_FAULT")


def _half(handle: int, data: Any, offset: int, /) -> int:
    if _order and os.path.exists(_order):  # noqa: PTH110 - pathlib is not worth its import in every process
        with suppress(FileNotFoundError):
            with open(_order) as words:  # noqa: PTH123
                stops = words.read() == "stop"
            os.unlink(_order)  # noqa: PTH108
            _pwrite(handle, bytes(data)[: len(data) // 2], offset)
            os.kill(os.getpid(), signal.SIGSTOP if stops else signal.SIGKILL)
    return _pwrite(handle, data, offset)


os.pwrite = _half
