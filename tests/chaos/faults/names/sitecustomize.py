"""Python runs this at the start of every process that has its folder on the path: a resolver that answers nothing.

While the file named by OVERNIGHT_FAULT is there, look-ups of names hang. Without it `provider.invalid` is this machine.
"""

import os
import socket
import time
from typing import Any

_resolve = socket.getaddrinfo
_order = os.environ.get("OVERNIGHT_FAULT", "")


def _hanging(host: Any, *args: Any, **options: Any) -> Any:
    if host == "provider.invalid":
        while os.path.exists(_order):  # noqa: PTH110 - pathlib is not worth its import in every process
            time.sleep(0.05)
        host = "127.0.0.1"
    return _resolve(host, *args, **options)


socket.getaddrinfo = _hanging
