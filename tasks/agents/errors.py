# ruff: noqa: N818 - named for what happened, like the providers' errors
"""What can end a call, a step or a run of an agent.

    AgentError (Exception)      an agent may catch these and go on
    ├── CallFailed              a call failed, after all its retries
    └── StepFailed              the function of a step raised

    Stop (BaseException)        ends this run; `except Exception` in an agent or an SDK doesn't catch it
    ├── Suspended               the job waits in its queue, and is replayed from its journal later
    ├── Halted                  the job has failed: a cap, a journal that does not fit, a deadline
    ├── Crash                   Overnight's own code failed, or Redis can't be reached
    └── Superseded              another delivery holds the job's lease

If an agent catches a Stop all the same, its next call raises it again. It ends the job's run whatever the coroutine
returns.
"""


class AgentError(Exception):
    """What an agent may catch."""


class CallFailed(AgentError):
    """A call failed. In a replay it fails again with the same error.

    `code` is the provider's error code, or one of Overnight's. `message` is the provider's message. `status` is the
    HTTP status, None if no response came.
    """

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(code, message, status)
        self.code = code
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class StepFailed(AgentError):
    """The function of a step raised `kind` with `message`.

    A replay raises the same: the journal holds the name of the exception's class, not the class.
    """

    def __init__(self, step: str, kind: str, message: str) -> None:
        super().__init__(step, kind, message)
        self.step = step
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return f"step {self.step!r}: {self.kind}: {self.message}"


class Stop(BaseException):
    """Ends this run of the coroutine."""


class Suspended(Stop):
    """The job waits `seconds` in its queue."""

    def __init__(self, seconds: float, reason: str) -> None:
        super().__init__(seconds, reason)
        self.seconds = seconds
        self.reason = reason


class Halted(Stop):
    """The job ends with this error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class Superseded(Stop):
    """Another delivery runs this job now."""


class Crash(Stop):
    """Overnight's own code failed, or Redis can't be reached: this delivery ends as that of a plain job would."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


#: If a run has several reasons to end, the one with the highest number counts.
GRAVITY: dict[type[Stop], int] = {Suspended: 0, Halted: 1, Crash: 2, Superseded: 3}
