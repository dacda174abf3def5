"""What this worker need not try now: workflows whose jobs would only be denied.

A denial that is long shuts the (workflow, model) that met it. A job of a shut model is set aside without asking
again; once every model that a workflow has lately asked for is shut, its *gate* is: the worker claims nothing from its
queue until shortly before the first of its jobs could go. Then the gate is ajar: a few jobs are let through, twice
as many each time that one is admitted, and one denial shuts it again. So a backlog of 20,000 jobs behind a paused
provider costs a handful of denials, and no other workflow anything.

A model whose calls go as fast as a limit allows is not shut but limited: its jobs stand in line (jobs/waitlist.py), or
are admitted well ahead of their time, and as many more are claimed as are wanted there. Of a workflow that nothing is
known of, a few jobs are claimed first: they show what limits it.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

#: A denial for less than this, in seconds, shuts nothing: its job just waits. One for a pause may name a shorter time.
LONG: Final = 5.0

#: A gate opens this much before its hint, in seconds, and stays shut for so long at the most: a person may have
#: raised a budget or cleared a latch.
EARLY, LONGEST = 0.25, 60.0

#: Jobs that are set aside come back within so many seconds before their model is open again, into their queue, out of
#: which the gate lets few at first; or after it, where no gate holds them back until then.
SPREAD: Final = 4.0

#: The shortest time that a job is set aside for, in seconds.
LEAST: Final = 0.1

#: How many jobs a gate that has just come ajar lets through, and from how many on it counts as open.
FIRST, OPEN = 2, 256

#: How many jobs of an unknown workflow are claimed first, and two more for each one that is admitted at once; and how
#: many seconds later any number, where nothing was heard of them.
TRIAL_JOBS, TRIAL_SECONDS = 32, 1.0

#: Behind a blocked account's jobs may lie those of other models: how many jobs are claimed to see, and how many seconds
#: lie between two such looks.
PEEK_JOBS, LOOK_EVERY = 8, 1.0

#: From so many workflows on, those whose jobs were claimed or denied long ago are forgotten.
MAX_KNOWN: Final = 2_000

#: The most models of one workflow that jobs merely name: more say nothing of what it asks for.
MAX_MODELS: Final = 1_000

#: A limited model is one no more when its jobs have gone without standing in line for so many seconds.
CLEARED_AFTER: Final = 1.0

#: Jobs that were let through and have neither been admitted nor denied for so long, in seconds, have ended otherwise.
SILENT: Final = 1.0

#: A model that no job has asked for in so many seconds says nothing of its workflow any more.
FORGET: Final = 120.0


@dataclass(slots=True)
class _Gate:
    """One workflow. `models`: until when each is shut, 0.0 where it is open, and when it was last asked for.

    `limited`: models whose jobs stand in line, with how many more are wanted there, and when one last went there.
    `blocked`: models that a blocked account shuts. `let`: jobs that were let through since one was admitted or denied;
    `pending`: those of whom nothing was heard yet.
    """

    models: dict[str, tuple[float, float]] = field(default_factory=dict)
    limited: dict[str, tuple[Callable[[], int], float]] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    width: int = OPEN
    let: int = 0
    let_at: float = 0.0
    pending: int = 0


@dataclass(slots=True)
class _Trial:
    """The first jobs of a workflow: when they were claimed, how many, how many were admitted, when the last one was."""

    began: float
    count: int = 0
    admitted: int = 0
    last: float = 0.0


class Gates:
    """The gates of one process. Times are this process's monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._gates: dict[str, _Gate] = {}
        self._trials: dict[str, _Trial] = {}

    def close(self, workflow: str, model: str, seconds: float, least: float = LONG, *, blocked: bool = False) -> None:
        """A job was denied for so long. Less than `least` shuts nothing. `blocked`: for a blocked account.

        That may last for a night: the workflow's jobs of other models are looked for meanwhile.
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
            # The first hint counts: later ones are of jobs further back in the same line.
            gate.models[model] = (before if before > now else until, now)
            (gate.blocked.add if blocked else gate.blocked.discard)(model)
            gate.width, gate.let = FIRST, 0

    def _new(self, workflow: str, now: float) -> _Gate:
        """A workflow's gate; the lock is held."""
        if len(self._gates) >= MAX_KNOWN:
            for name, each in list(self._gates.items()):
                if all(now - max(times) > FORGET for times in each.models.values()):
                    del self._gates[name]
        gate = self._gates[workflow] = _Gate()
        return gate

    def limit(self, workflow: str, model: str, wanted: Callable[[], int]) -> None:
        """More jobs of a model wait for sources than are of use: no more are claimed than `wanted` says."""
        now = self._clock()
        with self._lock:
            gate = self._gates.get(workflow) or self._new(workflow, now)
            gate.limited[model] = wanted, now
            gate.models[model] = (gate.models.get(model, (0.0, 0.0))[0], now)

    def admitted(self, workflow: str, model: str, *, waited: bool = False) -> None:
        """A job was admitted: the model is open, and more may try. `waited`: it had to stand in line for it."""
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
        """A job that was claimed stands in line now, or has been admitted, or goes back. Said once of each."""
        gate = self._gates.get(workflow)
        if gate is not None:
            with self._lock:
                gate.pending = max(0, gate.pending - 1)
        return True

    def closed_for(self, workflow: str, model: str) -> float:
        """Seconds until a job of this model is to be back in its queue, spread a little; 0.0 where it is open now.

        Before the model opens where the gate holds it back until then: there is work at once. After it where other
        models keep the gate open, or where the broker does not ask for gates.
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
        """How many jobs of a workflow may be claimed now: None for any number, 0 while its gate is shut."""
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
                looks = gate.blocked and now - gate.let_at >= LOOK_EVERY
                return PEEK_JOBS if looks else 0
            if now - gate.let_at > SILENT:
                gate.let = gate.pending = 0
            allowed = None if gate.width >= OPEN else max(0, gate.width - gate.let)
            going = [model for model, (until, _) in gate.models.items() if until <= now]
            if all(model in gate.limited for model in going):
                wanted = sum(max(0, gate.limited[model][0]()) for model in going) - gate.pending
                # The next one may be of a model that nobody has asked for yet.
                wanted = max(wanted, int(now - gate.let_at > SILENT))
                allowed = wanted if allowed is None else min(allowed, wanted)
            return allowed

    def claimed(self, workflow: str, count: int) -> None:
        """So many jobs of a workflow were claimed."""
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
