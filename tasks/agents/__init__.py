"""Agents: jobs of many calls, that go on where they were after a wait, a crash or a deploy.

http_client.py         an HTTP client whose requests are an agent's calls
position.py            where in an agent's code a call stands
json_values.py         what an agent and its steps return, as JSON
calls.py               one call and one step of an agent
errors.py              what can end a call, a step or a run of an agent
journal.py             what an agent's job has done
llm.py                 what an agent is given
outcome.py             how an agent's job ends
registry.py            which agents there are
reply.py               what a call brings back to an agent
stored_bodies.py       what calls and steps brought, if it is large
run.py                 one delivery of an agent's job
lua/close_journal.lua  A job of an agent has ended
lua/journal.lua        A call or a step of an agent has ended
lua/journal_wait.lua   an agent goes back into its queue
lua/open_journal.lua   A delivery of an agent's job opens the job's journal, and reads what earlier ones have …
"""
