"""What is to be done: the way of a job and of a batch, in the order in which they meet these files.

job.py       one line of the input: a call to be made, checked before anything is queued
batch.py     a batch's record: what it is, where its files are, how far it has come
precheck.py  what could never run is told before anything is queued
surcharges.py   what a body asks for beside its tokens, which no budget can hold
pricing.py   prices of the models that jobs may go to, looked up and shared; priced_routes.py: as a worker knows them
source.py    where it comes from: a file, a pipe or a URL; input.py: the file of jobs, read line by line
estimate.py  what it would take: tokens, dollars, time; budget_outlook.py: whether that fits into the budgets
submit.py    a file becomes a batch, or turns out to be one already; a single job is enqueued
feed.py      keeps a bounded window of the batch in its workflow's queue; close.py ends what will not run any more
window.py    how large that window is beside those of other batches; live.py: what all of them have out
run_job.py   one delivery of a job: lease, admission, call, settlement, result
attempt.py   one attempt at it: what is asked of the admission, and the way that is given
detour.py    the way around targets that have just failed
sizes.py     whether a model's 429s are about the size of a request
starts.py    how many jobs start at a time; places.py: who stands by for room; pauses.py: waits heard a moment ago
leases.py    what a worker holds meanwhile, renewed together; stops.py: whose batch runs no more jobs
usage.py     the tokens that an answer tells, as far as it can be true
endings.py   how a call ends: what it settles, and the job's result line
agents/      jobs of many calls: the same way, call by call, with a journal to go on from
retry.py     the decision after a failure: retry, snooze or fail
store.py     begin and finish: the only way a job starts and the only way it ends
results.py   results on their way from Redis into files
collect.py   results become the output files, which files.py keeps in a folder or an object store
ticks.py     what drives feed and collect, whichever worker is alive
gauges.py    every quota, circuit, latch and budget as of now; holdups.py: what a batch waits for;
             holdup_metrics.py: the same as metrics
costs.py     what calls have cost, by workflow, model, provider and batch
outputs.py   where a user wants the answers and failures: files, stdout, devices
story.py     one job: where it is, and what it has done
clean.py     what is old goes
check.py     what is configured, reachable and missing
startup.py   what a worker loads before its first job
local.py     worker processes of this machine
cli.py       the command line; its commands are in commands/, what they share in console.py, their looks in show.py,
             show_batches.py, show_jobs.py, show_limits.py and progress.py
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.agents.errors import AgentError, CallFailed, StepFailed
    from tasks.agents.llm import Llm
    from tasks.agents.registry import agent
    from tasks.submit import enqueue

__all__ = ["AgentError", "CallFailed", "Llm", "StepFailed", "agent", "enqueue"]

_PLACES = {
    "AgentError": "tasks.agents.errors",
    "CallFailed": "tasks.agents.errors",
    "Llm": "tasks.agents.llm",
    "StepFailed": "tasks.agents.errors",
    "agent": "tasks.agents.registry",
    "enqueue": "tasks.submit",
}


def __getattr__(name: str) -> Any:
    # Importing `tasks` must not import Celery.
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
