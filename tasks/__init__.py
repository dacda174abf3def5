"""What is to be done: jobs, agents, batches and schedules, and how people and programs watch them.

__main__.py  `python -m tasks` is `overnight`, if the console script is not on the path
startup.py   what a worker loads before it takes its first job, so that this one does not wait for it
agents/      Agents: jobs of many calls, that go on where they were after a wait, a crash or a deploy
answers/     Is an answer what its line asked for? Checks of answers
batches/     A file of jobs: submitted, fed into the queue, collected into output files
console/     The command line: each command, and beside it how its results look
jobs/        One job, from its message to its result line
monitoring/  What is going on: metrics, traces, snapshots, blockers, costs, Flower
schedules/   When a batch starts on its own
server/      The HTTP server: OpenAI's API in front of batches and live calls
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.agents.errors import AgentError, CallFailed, StepFailed
    from tasks.agents.llm import Llm
    from tasks.agents.registry import agent
    from tasks.batches.submit import enqueue

__all__ = ["AgentError", "CallFailed", "Llm", "StepFailed", "agent", "enqueue"]

_PLACES = {
    "AgentError": "tasks.agents.errors",
    "CallFailed": "tasks.agents.errors",
    "Llm": "tasks.agents.llm",
    "StepFailed": "tasks.agents.errors",
    "agent": "tasks.agents.registry",
    "enqueue": "tasks.batches.submit",
}


def __getattr__(name: str) -> Any:
    # Importing `tasks` must not import Celery.
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
