"""A file of jobs: submitted, fed into its workflow's queue, collected into output files.

In the order of a batch's life:

    submit.py           a file becomes a batch
    uploads.py          files that clients upload over HTTP
    acceptance.py       a batch that comes over HTTP is accepted
    lua/accept.lua      accept a batch
    validation.py       check its input, in a worker
    problem_codes.py    OpenAI's codes for the problems of an input
    sources.py          the input: a file, a pipe, stdin or a URL
    input.py            read the lines and check each
    duplicates.py       find the lines that repeat an earlier one
    prefix_order.py     put lines together that share a prompt cache
    precheck.py         find the lines that every target would refuse
    estimate.py         what a file of jobs would take: tokens, money, time
    further_cost.py     what further answers can cost at most
    lane_forecast.py    the estimate by lanes
    budget_outlook.py   whether the estimate fits into the budgets
    cache_outlook.py    whether prompt caches can save anything
    batch.py            the record of a batch
    check_counts.py     what the checks of a batch's answers have found
    store.py            the records in Redis: read, create, advance, retry, delete
    lua/create.lua      create a batch
    lua/advance.lua     move a batch to another status
    lua/retry.lua       start another round
    pilot.py            the lines that are answered first
    copies.py           the lines that repeat another one, and their result lines
    line_set.py         sets of line numbers, from bitmaps
    skipping.py         the lines that are not handed out
    files.py            a batch's files in `storage`
    due_ticks.py        the set of ticks in Redis
    lua/ticks.lua       take due ticks
    lua/rest.lua        a tick has run: when it is due again
    lua/wake.lua        make an idle tick due
    ticker.py           takes due ticks and runs them, in every worker
    ticks.py            one tick: feeds or collects one batch
    live.py             what all live batches have out
    window.py           how many of a batch's jobs may be out at once
    feed.py             hands lines out to the workflow's queue
    lua/fed.lua         save how far the input has been read
    pilot_feed.py       hands out the pilot, and lets the rest follow
    lua/pilot.lua       save how many lines of the pilot were handed out
    projection.py       what the answers of the pilot say of the whole batch
    lane_ticks.py       runs the ticks of the batch lane
    offload.py          one tick of the batch lane: divides the input, moves chunks on
    lane_times.py       how long provider batches have taken
    takeover.py         the latest moment of a batch's chunks
    batch_lane.py       what the batch lane can carry, and at what price
    cutting.py          cuts chunks of the next lines
    lua/divide.lua      save how the input was divided
    chunk.py            a chunk and its states
    chunk_journal.py    the journal of a batch's chunks
    lua/move_chunk.lua  write a chunk's next step into the journal
    splitting.py        splits a chunk that is too large
    chunk_lines.py      the lines of a chunk
    provider_queue.py   what a chunk takes of its provider's queue
    chunk_money.py      what a chunk holds: money, and its place in the provider's queue
    chunk_steps.py      the steps of a chunk at its provider
    chunk_checks.py     checks the answers of a chunk
    chunk_results.py    records the results of a chunk
    going_live.py       lines of a chunk without a result go live
    lua/go_live.lua     lines leave the batch lane
    results.py          plans and commits the next write of results
    lua/plan.lua        plan how far the next write goes
    lua/commit.lua      a planned write is on disk
    collect.py          writes results to the output files, and ends the batch
    close.py            ends the jobs that a cancelled or expired batch doesn't run
    dead_letters.py     ends a line whose message is a dead letter
    webhook_address.py  the addresses at which webhooks may be called
    webhooks.py         calls webhooks when a batch ends
    outputs.py          the copies of answers and failures for the user
    lane_report.py      how far a batch has come in the batch lane
    report.py           the report of one job, for `overnight jobs`
    prune.py            deletes old batches, for `overnight clean`
"""
