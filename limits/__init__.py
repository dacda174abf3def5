"""May this call go out now? Rate limits, budgets and circuits of LLM calls, kept in Redis.

The files, in the order a call meets them:

    bucket.py            what a quota is: dimensions, burst, headroom
    budget.py            what may be spent, and in which window
    circuit.py           when a provider counts as down, and how retries are rationed
    admission.py         admit() -> reservation -> sent() -> settle() | release(); renew() keeps it
    arguments.py         quotas, budgets and circuits as the scripts are told of them
    provider.py          what providers tell: levels in headers, 429s, latched accounts
    overview.py          what `overnight limits` and `overnight costs` show
    counting.py          what a call costs in each dimension, by provider
    scripts.py           a Lua script and a typed call of it; lua/ holds the scripts
    connection.py        sends calls to the server one at a time, from code that may block
    async_connection.py  sends a whole event loop's in one write
    pending.py           calls that wait for their replies, and those that go as one
    replies.py           what an error means that came instead of a reply
    suitability.py       what the server must be
    compact.py           JSON that takes no more memory than its text
    keys.py              every Redis key of Overnight
    errors.py            what can go wrong, and the caller's next step

It knows integers, keys and time; nothing of Celery, and nothing of any provider's wire format.
"""
