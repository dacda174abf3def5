"""What an error reply means for its call.

- The connection broke, or the error is one of PASSING: the call will succeed on a new connection.
- The server `refuses_for_now`: the call will succeed later, on the same connection. Other calls may still be answered.
- Any other error: the call is wrong.
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
"""Replies of a server that is starting, failing over or catching up."""

_NO_WRITES: Final = ("MISCONF ", "NOREPLICAS ")
"""Beginnings of replies of a server that cannot write to its disk, or lacks replicas."""

_BUSY: Final = "BUSY "
"""Beginning of a reply of a server that runs a long script."""

_NOT_IN_SCRIPTS: Final = "ACL failure in script"
"""Beginning of a reply to a script that runs a command which the user may not run."""


def refuses_for_now(error: Exception) -> bool:
    """Whether the same call will succeed later, on the same connection.

    If the server lacks memory, disk or replicas, or runs another client's long script, the call has changed nothing: it
    is refused before it begins, or at its first write. If the user lacks a right, the script may have done part of its
    work, but like every script it may be repeated.
    """
    return takes_no_writes(error) or _is_busy(error) or _is_forbidden(error)


def takes_no_writes(error: Exception) -> bool:
    """Whether the server lacks memory, a writable disk or replicas."""
    return isinstance(error, OutOfMemoryError) or str(error).startswith(_NO_WRITES)


def _is_busy(error: Exception) -> bool:
    """Whether some client's script has been running for longer than the server's `busy-reply-threshold`."""
    return str(error).startswith(_BUSY)


def _is_forbidden(error: Exception) -> bool:
    return isinstance(error, NoPermissionError) or str(error).startswith(_NOT_IN_SCRIPTS)


def server_words(error: Exception) -> str:
    """The server's own words, without a full stop. redis-py drops the first word of errors that it has a class for."""
    words = str(error).rstrip(".")
    return f"OOM {words}" if isinstance(error, OutOfMemoryError) else words


def as_limits_error(error: Exception, name: str) -> LimitsError:
    """The error as one of ours. `name`: the script's or the command's."""
    if takes_no_writes(error):
        return ServerUnavailable(
            f"The Redis server takes no writes: {server_words(error)}.",
            next_step="Give it the memory, the disk or the replicas that it lacks; every call is safe to repeat.",
        )
    if _is_busy(error):
        return ServerUnavailable(
            "The Redis server is busy with another client's script.",
            next_step="Wait until it ends, or end it with SCRIPT KILL; every call is safe to repeat.",
        )
    if _is_forbidden(error):
        return NotPermitted(f"The Redis user may not do what {name} needs: {server_words(error)}.")
    if isinstance(error, (RedisConnectionError, RedisTimeoutError, *PASSING)):
        return ServerUnavailable(f"The Redis server gave no answer: {error}.")
    return ScriptError(f"{name}: {error}.")
