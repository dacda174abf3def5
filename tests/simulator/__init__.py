"""A real HTTP provider on loopback: it counts, refuses, bills and fails as providers do.

    process.py    Simulator: starts it as a process of its own, and asks it for its journal
    server.py     HTTP on a raw asyncio.Protocol: a benchmark's provider must cost next to no CPU
    service.py    what becomes of one request: key, failure, quota, answer
    request.py    one request that has been understood
    batches.py    its files and provider batches, and what goes wrong with them
    batch_objects.py, batch_times.py    files, lines and outcomes; how long a provider batch takes
    batch_openai.py, batch_anthropic.py, batch_mistral.py, batch_gemini.py    the Batch APIs that show them
    config.py     everything that can be set, at the start or live
    faults.py     the ways to fail
    quota.py      the ways in which providers count
    prompt_cache.py    prompt caches, as OpenAI and Anthropic document them
    answers.py    answers in each wire format, a function of the request alone
    flaws.py      answers to a schema, and answers that are not what was asked for
    streams.py    the same answers as streams of events
    refusals.py   the 429s and the errors of each wire format
    journal.py    every request that came, with what it was billed

    with Simulator({"models": {"*": {"rpm": 300}}, "retry_after": "seconds"}) as simulator:
        ... base_url = simulator.base_url ...
        assert not [entry for entry in simulator.journal() if entry["early"]]
        simulator.configure(failures=[{"mode": "500", "probability": 0.1}])

`python -m tests.simulator --config JSON` prints the port as its first line and runs until it is terminated
or its standard input ends.
"""

from tests.simulator.answers import answer_text, expected_text
from tests.simulator.process import Simulator

__all__ = ["Simulator", "answer_text", "expected_text"]
