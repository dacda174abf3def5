# ruff: noqa: N818 - they are named for what happened, as the providers' errors are
"""What can end a call, a step or a run of an agent.

    AgentError (Exception)      what an agent may catch, and go another way
    ├── CallFailed              a call brought no answer, after all its retries
    └── StepFailed              the function of a step raised

    Stop (BaseException)        ends this run of the coroutine; `except Exception` in an agent or an SDK lets it pass
    ├── Suspended               the job waits in its queue, and is replayed from its journal later
    ├── Halted                  the job has failed: a cap, a journal that does not fit, a deadline
    ├── Crash                   our own code failed, or the server is away
    └── Superseded              another delivery holds the job's lease

A Stop that an agent swallows all the same is raised again at its next call, and counts in the end whatever the
coroutine returns.
"""


class AgentError(Exception):
    """The root of what an agent may catch."""


class CallFailed(AgentError):
    """A call brought no answer. Replayed, it fails again in the same words.

    `code` is the provider's word for the failure, or ours; `status` the HTTP status, None where no answer came;
    `message` the provider's own words.
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

    Live and replayed alike: the original class stands in no journal.
    """

    def __init__(self, step: str, kind: str, message: str) -> None:
        super().__init__(step, kind, message)
        self.step = step
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return f"step {self.step!r}: {self.kind}: {self.message}"


class Stop(BaseException):
    """This run of the coroutine ends here."""


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
    """Our own code failed, or the server is away: this delivery ends as a plain job's would."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


#: Of several reasons why a run ends, the one with the highest number counts.
GRAVITY: dict[type[Stop], int] = {Suspended: 0, Halted: 1, Crash: 2, Superseded: 3}
