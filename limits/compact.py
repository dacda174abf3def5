"""JSON that is kept for a while, in no more memory than it takes.

orjson writes into a buffer of 4 KB and gives that away as it is, however short the text: thousands of calls in flight
would hold it for as long as they last.
"""

from typing import Any

import orjson


def dumps(value: Any) -> bytes:
    """`value` as JSON; TypeError where it cannot be written."""
    return memoryview(orjson.dumps(value)).tobytes()
