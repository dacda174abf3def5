"""Agents: jobs of many calls, that go on where they were after a wait, a crash or a deploy.

registry.py    `@agent`: which coroutines there are, and the modules that hold them
llm.py         `Llm`: what an agent is given; its calls, steps, branches, time and chance
reply.py       what a call brings back
run.py         one delivery of an agent's job, from its journal to its result or its next wait
work.py        one call and one step, made once and journaled
journal.py     what a job has done, in Redis, entry by entry
blobs.py       large answers and results of steps, a file each
branch.py      where in the agent's code a call stands: its position in the journal
purse.py       what a job may spend
door.py        the same for SDKs: an HTTP client whose requests are an agent's calls
ending.py      a job's result line
errors.py      what an agent may catch, and what ends its run whatever it catches

The decorator has no module of its own name: `from tasks import agent` must give the decorator, also once everything
here is imported.
"""
