"""Agents: jobs of many calls, which resume after a wait, a crash or a deploy.

In the order in which a job meets them:

    registry.py            which agents there are: `@agent`, and the modules that `agents = [...]` names
    runner.py              one delivery of an agent's job, from its journal to its result line
    run.py                 the state of one run of an agent: its journal, its caps, and the reason why it stops
    journal.py             the journal of a job: opened, read, written, closed
    lua/open_journal.lua   a delivery opens the journal
    lua/journal.lua        a call or a step has ended: write its entry
    lua/journal_wait.lua   an agent's job goes back into its queue
    lua/close_journal.lua  an agent's job has ended
    journal_record.py      what a journal holds: entries and sums
    stored_bodies.py       large answers and results: a file each
    llm.py                 what an agent is given: `llm`
    calls.py               one call and one step of an agent
    position.py            the position of a call in its agent's code
    reply.py               what a call returns to an agent
    http_client.py         HTTP clients for SDKs, whose requests are an agent's calls
    json_values.py         what an agent and its steps return, as JSON
    errors.py              what can end a call, a step or a run
    outcome.py             the outcome of an agent's job
"""
