"""What an error that came instead of a reply means for the call that met it.

Where the connection broke, or the error is PASSING, the same call succeeds on a new connection. Where the server
`takes_no_writes`, it succeeds once that is mended, and what only reads is answered until then. Whatever else is
refused is wrong, or may not be done.
"""

from typing import Final

from redis.exceptions import (
    BusyLoadingError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from limits.errors import LimitsError, ScriptError, ServerUnavailable, ServerUnsuitable

PASSING: Final = (BusyLoadingError, MasterDownError, ReadOnlyError, TryAgainError)
"""Answers of a server that is starting, failing over or catching up."""

_NO_WRITES: Final = ("MISCONF ", "NOREPLICAS ")


def takes_no_writes(error: Exception) -> bool:
    """Whether the server lacks memory, a disk that can be written or replicas.

    A script that met this has changed nothing: once its first write is let through, so are those behind it.
    """
    return isinstance(error, OutOfMemoryError) or str(error).startswith(_NO_WRITES)


def as_told(error: Exception) -> str:
    """The server's own words, without a full stop. redis-py cuts off the first where it has a class for it."""
    words = str(error).rstrip(".")
    return f"OOM {words}" if isinstance(error, OutOfMemoryError) else words


def told(error: Exception, name: str) -> LimitsError:
    """The error as one of ours; `name` is the script's or the command's."""
    if takes_no_writes(error):
        return ServerUnavailable(
            f"The Redis server takes no writes: {as_told(error)}.",
            next_step="Give it the memory, the disk or the replicas that it lacks; every call is safe to repeat.",
        )
    if isinstance(error, (RedisConnectionError, RedisTimeoutError, *PASSING)):
        return ServerUnavailable(f"The Redis server gave no answer: {error}.")
    if isinstance(error, NoPermissionError):
        return ServerUnsuitable(
            f"The Redis user may not do what {name} needs: {error}.",
            next_step="Grant it ~{namespace}:* and +@scripting +@read +@write +@fast.",
        )
    return ScriptError(f"{name}: {error}.")
