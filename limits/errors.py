"""What can go wrong between Overnight and its Redis.

    LimitsError
    ├── ServerUnavailable      no answer in time, or no writes: nothing was decided, so no call may be sent
    │   └── NotPermitted       the server's user lacks a right that the script needs
    ├── ServerUnsuitable       the server answers, but must not be used as it is configured
    │   └── ClusterMode        (limits/client/server_check.py) it has only part of the keys
    ├── ScriptError            a script failed: its arguments or the script are wrong
    └── InvalidQuota           a wrong setting of a quota, budget or circuit (also a ValueError)

Each has a `next_step`: what its reader, or the code that catches it, should do.
"""


class LimitsError(Exception):
    """The root. `next_step` says in one sentence what to do."""

    next_step: str = "Report this: it is a defect in Overnight."

    def __init__(self, message: str, *, next_step: str | None = None) -> None:
        super().__init__(message)
        if next_step is not None:
            self.next_step = next_step

    def __str__(self) -> str:
        return f"{super().__str__()} {self.next_step}"


class ServerUnavailable(LimitsError):  # noqa: N818 - names a state of the server, as HTTP clients do
    """The server did not answer in time, is busy with another client's script, or takes no writes.

    Overnight then sends nothing: the job waits and asks again.
    """

    next_step = "Wait and ask again; every call is safe to repeat."


class NotPermitted(ServerUnavailable):
    """The server's user lacks a right that the script needs. Works as soon as the right is granted."""

    next_step = "Grant it ~{namespace}:* and +@scripting +@read +@write +@fast."


class ServerUnsuitable(LimitsError):  # noqa: N818 - as above
    """The server is too old, may evict keys, or forbids what Overnight needs."""

    next_step = "Change the server's configuration, then start again."


class ScriptError(LimitsError):
    """The server refused a script or its arguments. Repeating the call gives the same error."""


class InvalidQuota(LimitsError, ValueError):  # noqa: N818 - reads as the sentence it reports
    """A wrong setting of a quota, budget or circuit."""

    next_step = "Correct the setting named above."
