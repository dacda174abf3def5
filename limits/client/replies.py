"""What an error that came instead of a reply means for the call that met it.

If the connection broke, or the error is PASSING, the same call succeeds on a new connection. If the server
`refuses_for_now`, it succeeds over the same connection later, and what the server still allows is answered until
then. Whatever else is refused is wrong.
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

from limits.errors import LimitsError, NotPermitted, ScriptError, ServerUnavailable

PASSING: Final = (BusyLoadingError, MasterDownError, ReadOnlyError, TryAgainError)
"""Answers of a server that is starting, failing over or catching up."""

_NO_WRITES: Final = ("MISCONF ", "NOREPLICAS ")
_BUSY: Final = "BUSY "
_NOT_IN_SCRIPTS: Final = "ACL failure in script"


def refuses_for_now(error: Exception) -> bool:
    """Whether the same call succeeds later, once the server's trouble is over, over the same connection.

    A script that meets a lack of memory, disk or replicas, or another client's long script, has changed nothing: the
    server refuses it before it begins, or at its first write. One that meets a missing right may have done a part of
    its work; like every script it may be repeated.
    """
    return takes_no_writes(error) or _is_busy(error) or _is_forbidden(error)


def takes_no_writes(error: Exception) -> bool:
    """Whether the server lacks memory, a disk that can be written or replicas."""
    return isinstance(error, OutOfMemoryError) or str(error).startswith(_NO_WRITES)


def _is_busy(error: Exception) -> bool:
    """Whether a script, of any client, has been running for longer than the server's `busy-reply-threshold`."""
    return str(error).startswith(_BUSY)


def _is_forbidden(error: Exception) -> bool:
    return isinstance(error, NoPermissionError) or str(error).startswith(_NOT_IN_SCRIPTS)


def server_words(error: Exception) -> str:
    """The server's own words, without a full stop. redis-py cuts off the first where it has a class for it."""
    words = str(error).rstrip(".")
    return f"OOM {words}" if isinstance(error, OutOfMemoryError) else words


def as_limits_error(error: Exception, name: str) -> LimitsError:
    """The error as one of ours; `name` is the script's or the command's."""
    if takes_no_writes(error):
        return ServerUnavailable(
            f"The Redis server takes no writes: {server_words(error)}.",
            next_step="Give it the memory, the disk or the replicas that it lacks; every call is safe to repeat.",
        )
    if _is_busy(error):
        return ServerUnavailable(
            "The Redis server is busy with another client's script.",
            next_step="Wait for its end, or end it with SCRIPT KILL; every call is safe to repeat.",
        )
    if _is_forbidden(error):
        return NotPermitted(f"The Redis user may not do what {name} needs: {server_words(error)}.")
    if isinstance(error, (RedisConnectionError, RedisTimeoutError, *PASSING)):
        return ServerUnavailable(f"The Redis server gave no answer: {error}.")
    return ScriptError(f"{name}: {error}.")
