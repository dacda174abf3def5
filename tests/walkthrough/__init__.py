"""Overnight as a tutorial: one concept a test, in the order in which a user meets them, on real parts.

    test_1_batches.py    a file of jobs goes in, a file of answers comes out
    test_2_limits.py     may this call go out now?
    test_3_failures.py   what goes wrong, and what happens to the job
    test_4_budgets.py    a limit in dollars, and what happens at its end
    test_5_cancel.py     stop a batch and keep what it has paid for
    test_6_retry.py      run again what is missing
    test_7_agents.py     jobs of many calls, in your own Python
    test_8_schedules.py  a batch that starts on its own
    test_9_estimate.py   what a file will cost, before anything is sent
    test_10_copies.py    equal lines are asked once
    test_11_pilot.py     a few answers before the whole bill
    test_11_answers.py   answers that are not what was asked for
    test_12_prompt_caches.py   lines that begin alike, for a part of the price

conftest.py has the overnight.toml of all of them.
"""
