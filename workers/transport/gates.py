"""Gates: a worker does not claim from a workflow whose jobs would only be denied.

open        any number is claimed, or as many as the waitlists of its models want (tasks/jobs/waitlists.py)
half-open   a few jobs are claimed, and two more for each one that is admitted, until the gate is open
closed      nothing is claimed: every model that the workflow has lately asked for is closed

An unknown workflow is half-open: its first jobs show what limits it. A long denial closes the job's model for its
workflow, and jobs of a closed model are snoozed without asking for admission. Shortly before the first model opens, the
gate is half-open again. A backlog of 20,000 jobs behind a paused provider costs a handful of denials, and other
workflows are not affected.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

#: Seconds of a denial that closes its model. After a shorter one the job just waits.
LONG: Final = 5.0

#: Seconds by which a gate opens before its hint, so that jobs are ready when they are allowed.
EARLY: Final = 0.25

#: Seconds that a gate stays closed at most: an operator may have raised a budget or cleared an account.
LONGEST: Final = 60.0

#: Seconds over which snoozed jobs return. They return before their model opens if the gate then lets few of them
#: through; after it if the gate is open for other models.
SPREAD: Final = 4.0

#: Seconds of the shortest snooze.
LEAST: Final = 0.1

#: Jobs that a half-open gate lets through at first: of an unknown workflow, and after a denial.
UNKNOWN, FIRST = 32, 2

#: Jobs that a half-open gate would let through from which on it is open.
OPEN: Final = 256

#: Seconds after which claimed jobs that were neither admitted nor denied are no longer expected: they don't ask.
SILENT: Final = 1.0

#: Jobs that are claimed every `SILENT` seconds to look for other models behind those of a blocked account.
PEEK_JOBS: Final = 8

#: Seconds after which a workflow without claims, or a model that no job has asked for, is forgotten.
FORGET: Final = 120.0

#: Workflows from which on those are forgotten, and models that one gate knows at most. Producers can name any number.
MAX_KNOWN, MAX_MODELS = 2_000, 1_000


@dataclass(slots=True)
class _Model:
    """A model of one workflow. `asked`: when a job last asked for it. `blocked`: a blocked account closes it.

    `wanted` returns how many more of its jobs may wait; None if they don't have to.
    """

    asked: float
    opens: float = 0.0
    blocked: bool = False
    wanted: Callable[[], int | None] = lambda: None


@dataclass(slots=True)
class _Gate:
    """One workflow. Times are monotonic seconds; 0.0: never."""

    models: dict[str, _Model] = field(default_factory=dict)
    is_open: bool = False
    credit: int = UNKNOWN  # jobs that may still be claimed while it is half-open
    tried: float = 0.0  # when a job was last claimed while it was half-open
    claimed: float = 0.0  # when a job was last claimed
    pending: int = 0  # claimed jobs that have neither asked for admission nor joined a waitlist yet

    def half_open(self) -> None:
        """Let a few jobs through."""
        self.is_open, self.credit, self.tried = False, FIRST, 0.0

    def is_closed(self, now: float) -> bool:
        """Whether every model that was lately asked for is closed."""
        return bool(self.models) and all(model.opens > now for model in self.models.values())

    def is_forgotten(self, now: float) -> bool:
        """Whether nothing was claimed or asked for lately, as if the workflow were unknown. Forgets old models."""
        for name, model in list(self.models.items()):
            if now - max(model.opens, model.asked) > FORGET:
                del self.models[name]
        return not self.models and now - self.claimed > FORGET

    def allowed(self, now: float) -> int | None:
        """How many jobs may be claimed now; None for any number."""
        silent = now - self.claimed > SILENT
        if silent:
            self.pending = 0
        if self.is_closed(now):
            return PEEK_JOBS if silent and any(model.blocked for model in self.models.values()) else 0
        if self.tried and now - self.tried > SILENT:
            self.is_open = True  # its jobs don't ask, or none was denied
        half_open = None if self.is_open else max(0, self.credit)
        return min((each for each in (half_open, self._wanted(now, silent)) if each is not None), default=None)

    def _wanted(self, now: float, silent: bool) -> int | None:
        """How many more jobs the waitlists want; None if one of the open models has no limit."""
        wanted = [model.wanted() for model in self.models.values() if model.opens <= now]
        if not wanted or None in wanted:
            return None
        # One now and then all the same: the next job may be for a model that no job has asked for yet.
        return max(sum(max(0, each or 0) for each in wanted) - self.pending, int(silent))


class Gates:
    """The gates of one process. Times are this process's monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._gates: dict[str, _Gate] = {}
        self._held: frozenset[str] = frozenset()

    def hold(self, workflows: frozenset[str]) -> None:
        """Claim nothing from these workflows, and from those of the last call again: they are paused by hand."""
        self._held = workflows

    def forget(self) -> None:
        """Forget why gates are closed: the limits have changed, so their first jobs ask again."""
        with self._lock:
            self._gates.clear()

    def close(self, workflow: str, model: str, seconds: float, least: float = LONG, *, blocked: bool = False) -> None:
        """Close a model: one of its jobs was denied for `seconds`. A denial shorter than `least` closes nothing.

        `blocked` means a blocked account. That may last for hours, so a few jobs are still claimed now and then, to
        find those of other models.
        """
        now = self._clock()
        with self._lock:
            gate = self._gate(workflow)
            if seconds >= least:
                found = self._model(gate, model, now)
                # The first hint counts: later ones are for jobs further back in the same waitlist.
                if found.opens <= now:
                    found.opens = now + min(seconds, LONGEST) - EARLY
                found.blocked = blocked
            if seconds >= least or not gate.is_open:
                gate.half_open()

    def limit(self, workflow: str, model: str, wanted: Callable[[], int | None]) -> None:
        """Note that jobs of a model wait in a waitlist, which wants a number of them, or None if it has no limit."""
        with self._lock:
            self._model(self._gate(workflow), model, self._clock()).wanted = wanted

    def admitted(self, workflow: str, model: str) -> None:
        """Open a model: one of its jobs was admitted."""
        with self._lock:
            gate = self._gate(workflow)
            found = self._model(gate, model, self._clock())
            found.opens, found.blocked = 0.0, False
            if not gate.is_open:
                gate.credit += 2
                gate.is_open = gate.credit >= OPEN

    def arrived(self, workflow: str) -> Literal[True]:
        """Note that a claimed job was admitted, joined the waitlist or was snoozed. Called once for each job."""
        gate = self._gates.get(workflow)
        if gate is not None:
            with self._lock:
                gate.pending = max(0, gate.pending - 1)
        return True

    def closed_for(self, workflow: str, model: str) -> float:
        """Seconds for which to snooze a job of this model, spread a little; 0.0 if the model is open.

        If the gate holds jobs back, they return before the model opens, so that there is work at once. If other models
        keep the gate open, or the broker ignores gates (RabbitMQ), they return after it.
        """
        gate = self._gates.get(workflow)
        if gate is None:
            return 0.0
        now = self._clock()
        with self._lock:
            opens = self._model(gate, model, now).opens
            held = gate.claimed > 0 and gate.is_closed(now)
        if opens <= now:
            return 0.0
        spread = random.random() * min(SPREAD, 1.0 + 0.5 * (opens - now))
        return max(LEAST, opens - now - spread) if held else opens - now + spread

    def allowed(self, workflow: str) -> int | None:
        """How many jobs of a workflow may be claimed now: None for any number, 0 while its gate is closed."""
        if workflow in self._held:
            return 0
        now = self._clock()
        gate = self._gates.get(workflow)
        if gate is None:
            return UNKNOWN
        with self._lock:
            return UNKNOWN if gate.is_forgotten(now) else gate.allowed(now)

    def claimed(self, workflow: str, count: int) -> None:
        """Note that `count` jobs of a workflow were claimed."""
        now = self._clock()
        with self._lock:
            gate = self._gate(workflow)
            if gate.is_forgotten(now):
                gate = self._gates[workflow] = _Gate()
            if not gate.is_open and not gate.is_closed(now):
                gate.credit -= count
                gate.tried = now
            gate.pending += count
            gate.claimed = now

    def _gate(self, workflow: str) -> _Gate:
        """The workflow's gate. The caller holds the lock."""
        found = self._gates.get(workflow)
        if found is None:
            if len(self._gates) >= MAX_KNOWN:
                now = self._clock()
                for name, each in list(self._gates.items()):
                    if each.is_forgotten(now):
                        del self._gates[name]
            found = self._gates[workflow] = _Gate()
        return found

    def _model(self, gate: _Gate, model: str, now: float) -> _Model:
        """A model of the gate, which a job asks for. Beyond `MAX_MODELS` it is not kept. The caller holds the lock."""
        found = gate.models.get(model)
        if found is None:
            found = _Model(now)
            if len(gate.models) < MAX_MODELS:
                gate.models[model] = found
        found.asked = now
        return found


#: This process's gates.
gates = Gates()
