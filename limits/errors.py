"""What can go wrong between Overnight and its Redis.

    LimitsError
    ├── ServerUnavailable      no answer in time, or no writes: nothing was decided, so nothing may be called
    │   └── NotPermitted       the server's user lacks a right that a call needs
    ├── ServerUnsuitable       the server answers, and must not be used as it is
    │   └── ClusterMode        (limits/client/server_check.py) it keeps parts of the keys only
    ├── ScriptError            a script failed: the arguments or the script are wrong
    └── InvalidQuota           a setting of a quota, budget or circuit that cannot be meant (also a
    ValueError)

Each carries `next_step`: what its reader, or the code that catches it, does next.
"""


class LimitsError(Exception):
    """The root. `next_step` tells, in one sentence, how to go on."""

    next_step: str = "Report this: it is a defect in Overnight."

    def __init__(self, message: str, *, next_step: str | None = None) -> None:
        super().__init__(message)
        if next_step is not None:
            self.next_step = next_step

    def __str__(self) -> str:
        return f"{super().__str__()} {self.next_step}"


class ServerUnavailable(LimitsError):  # noqa: N818 - names a state of the server, as HTTP clients do
    """The server gave no answer before the deadline, is busy with another client's script, or takes no writes.

    Overnight fails closed: the job waits and asks again.
    """

    next_step = "Wait and ask again; every call is safe to repeat."


class NotPermitted(ServerUnavailable):
    """The server's user may not do what a call needs, so nothing was decided. It may once the right is granted."""

    next_step = "Grant it ~{namespace}:* and +@scripting +@read +@write +@fast."


class ServerUnsuitable(LimitsError):  # noqa: N818 - as above
    """The server is too old, may evict keys, or forbids what Overnight needs."""

    next_step = "Change the server's configuration, then start again."


class ScriptError(LimitsError):
    """The server refused a script or its arguments. Repeating the call gives the same answer."""


class InvalidQuota(LimitsError, ValueError):  # noqa: N818 - reads as the sentence it reports
    """A quota, budget or circuit setting that cannot be meant."""

    next_step = "Correct the setting named above."
