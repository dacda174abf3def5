"""Gates: a worker does not claim from a workflow whose jobs would only be denied.

A long denial closes the job's model for its workflow. Jobs of a closed model are snoozed without asking for admission.
Once every model that the workflow has lately asked for is closed, so is its *gate*: the worker claims nothing from its
queue until shortly before the first model opens. Then the gate is half-open: it lets a few jobs through, twice as many
after each admission, and one denial closes it again. A backlog of 20,000 jobs behind a paused provider costs a handful
of denials, and other workflows are not affected.

A model whose calls go as fast as a quota allows is not closed but limited: its jobs wait in the waitlist
(tasks/jobs/waitlist.py), and no more are claimed than it wants. An unknown workflow starts with a few jobs, which show
what limits it.
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

#: Jobs that a gate lets through when it becomes half-open.
FIRST: Final = 2

#: Jobs from which on a half-open gate counts as open.
OPEN: Final = 256

#: Jobs that are claimed first from an unknown workflow, and two more for each one that is admitted at once.
TRIAL_JOBS: Final = 32

#: Seconds after which any number is claimed from an unknown workflow if nothing has limited it.
TRIAL_SECONDS: Final = 1.0

#: Jobs that are claimed to look for other models behind those of a blocked account.
PEEK_JOBS: Final = 8

#: Seconds between two such looks.
PEEK_EVERY: Final = 1.0

#: Workflows from which on those without claims or denials for `FORGET` seconds are forgotten.
MAX_KNOWN: Final = 2_000

#: Models that one workflow's gate knows at most. Producers can name any number of them.
MAX_MODELS: Final = 1_000

#: Seconds without a job in the waitlist after which a model is no longer limited.
CLEARED_AFTER: Final = 1.0

#: Seconds after which jobs that were let through and neither admitted nor denied are no longer expected.
SILENT: Final = 1.0

#: Seconds after which a model that no job has asked for no longer counts for its workflow.
FORGET: Final = 120.0


@dataclass(slots=True)
class _Gate:
    """One workflow. Times are monotonic seconds."""

    #: By model: when it opens (0.0 if it is open), and when it was last asked for.
    models: dict[str, tuple[float, float]] = field(default_factory=dict)
    #: Models whose jobs wait in the waitlist: how many more it wants, and when a job last joined it.
    limited: dict[str, tuple[Callable[[], int], float]] = field(default_factory=dict)
    #: Models that a blocked account closes.
    blocked: set[str] = field(default_factory=set)
    #: Jobs that may be let through between two admissions.
    width: int = OPEN
    #: Jobs that were let through since the last admission or denial, and when the last one was.
    let: int = 0
    let_at: float = 0.0
    #: Claimed jobs that have not arrived at admission yet.
    pending: int = 0


@dataclass(slots=True)
class _Trial:
    """The first jobs of an unknown workflow."""

    began: float
    count: int = 0
    admitted: int = 0
    last: float = 0.0  # when one was last claimed


class Gates:
    """The gates of one process. Times are this process's monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._gates: dict[str, _Gate] = {}
        self._trials: dict[str, _Trial] = {}

    def close(self, workflow: str, model: str, seconds: float, least: float = LONG, *, blocked: bool = False) -> None:
        """Close a model: one of its jobs was denied for `seconds`. A denial shorter than `least` closes nothing.

        `blocked` means a blocked account. That may last for hours, so a few jobs are still claimed now and then, to
        find those of other models.
        """
        now = self._clock()
        with self._lock:
            gate = self._gates.get(workflow)
            if seconds < least:
                if gate is None:
                    return
                seconds = 0.0
            if gate is None:
                gate = self._new(workflow, now)
            until = now + min(seconds, LONGEST) - EARLY if seconds else 0.0
            before = gate.models.get(model, (0.0, 0.0))[0]
            # The first hint counts: later ones are for jobs further back in the same waitlist.
            gate.models[model] = (before if before > now else until, now)
            (gate.blocked.add if blocked else gate.blocked.discard)(model)
            gate.width, gate.let = FIRST, 0

    def _new(self, workflow: str, now: float) -> _Gate:
        """Make a workflow's gate. The caller holds the lock."""
        if len(self._gates) >= MAX_KNOWN:
            for name, each in list(self._gates.items()):
                if all(now - max(times) > FORGET for times in each.models.values()):
                    del self._gates[name]
        gate = self._gates[workflow] = _Gate()
        return gate

    def limit(self, workflow: str, model: str, wanted: Callable[[], int]) -> None:
        """Limit a model whose jobs wait: claim no more of them than `wanted` returns."""
        now = self._clock()
        with self._lock:
            gate = self._gates.get(workflow) or self._new(workflow, now)
            gate.limited[model] = wanted, now
            gate.models[model] = (gate.models.get(model, (0.0, 0.0))[0], now)

    def admitted(self, workflow: str, model: str, *, waited: bool = False) -> None:
        """Open a model: one of its jobs was admitted. `waited` means that it was in the waitlist before."""
        gate = self._gates.get(workflow)
        if gate is None:
            if (trial := self._trials.get(workflow)) is not None:
                trial.admitted += 1
            return
        now = self._clock()
        with self._lock:
            gate.models[model] = (0.0, now)
            gate.blocked.discard(model)
            if not waited and model in gate.limited and now - gate.limited[model][1] > CLEARED_AFTER:
                del gate.limited[model]
            gate.width, gate.let = min(OPEN, gate.width * 2), 0
            if gate.width >= OPEN and not gate.limited and not any(until > now for until, _ in gate.models.values()):
                self._gates.pop(workflow, None)

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
            until, _ = gate.models.get(model, (0.0, 0.0))
            if model in gate.models or len(gate.models) < MAX_MODELS:
                gate.models[model] = (until, now)
            held = workflow in self._trials and all(opens > now for opens, _ in gate.models.values())
        if until <= now:
            return 0.0
        spread = random.random() * min(SPREAD, 1.0 + 0.5 * (until - now))
        return max(LEAST, until - now - spread) if held else until - now + spread

    def allowed(self, workflow: str) -> int | None:
        """How many jobs of a workflow may be claimed now: None for any number, 0 while its gate is closed."""
        now = self._clock()
        gate = self._gates.get(workflow)
        if gate is None:
            trial = self._trials.get(workflow)
            if trial is None or now - trial.last > FORGET:
                return TRIAL_JOBS
            return max(0, TRIAL_JOBS + 2 * trial.admitted - trial.count) if now - trial.began < TRIAL_SECONDS else None
        with self._lock:
            for model, (until, asked) in list(gate.models.items()):
                if now - max(until, asked) > FORGET:
                    del gate.models[model]
                    gate.limited.pop(model, None)
                    gate.blocked.discard(model)
            if not gate.models:
                self._gates.pop(workflow, None)
                return None
            if all(until > now for until, _ in gate.models.values()):
                peek = gate.blocked and now - gate.let_at >= PEEK_EVERY
                return PEEK_JOBS if peek else 0
            if now - gate.let_at > SILENT:
                gate.let = gate.pending = 0
            allowed = None if gate.width >= OPEN else max(0, gate.width - gate.let)
            going = [model for model, (until, _) in gate.models.items() if until <= now]
            if all(model in gate.limited for model in going):
                wanted = sum(max(0, gate.limited[model][0]()) for model in going) - gate.pending
                # The next job may be for a model that no job has asked for yet.
                wanted = max(wanted, int(now - gate.let_at > SILENT))
                allowed = wanted if allowed is None else min(allowed, wanted)
            return allowed

    def claimed(self, workflow: str, count: int) -> None:
        """Note that `count` jobs of a workflow were claimed."""
        now = self._clock()
        trial = self._trials.get(workflow)
        if trial is None or now - trial.last > FORGET:
            if len(self._trials) >= MAX_KNOWN:
                self._trials = {name: each for name, each in self._trials.items() if now - each.last <= FORGET}
            trial = self._trials[workflow] = _Trial(now)
        trial.count += count
        trial.last = now
        gate = self._gates.get(workflow)
        if gate is not None:
            with self._lock:
                gate.let += count
                gate.pending += count
                gate.let_at = now


#: This process's gates.
gates = Gates()
