"""A file of jobs: submitted, fed into the queue, collected into output files.

batch.py                A batch's record in Redis
store.py                where batches are kept
input.py                A file of jobs, read line by line
submit.py               A file becomes a batch
precheck.py             what a worker would refuse for good, known before anything is queued
estimate.py             what a file of jobs would take
budget_outlook.py       whether a batch fits into the budgets that are over it, before anything is sent
feed.py                 keeps a bounded window of a batch in its workflow's queue (tasks/batches/window.py), …
ticks.py                what drives feed and collect
close.py                ends the jobs that a cancelled or expired batch no longer runs
results.py              results on their way from Redis into a batch's files
collect.py              results become the output files, byte by byte in a place that is settled before it is …
files.py                a batch's files in `storage`
report.py               one job of a batch, as `overnight jobs` tells it
prune.py                what is old goes
live.py                 the batches that are not over, as one process reads them for all of its ticks
outputs.py              where a batch's answers and failures go
set_aside.py            A line whose message was set aside has ended, with an error
sources.py              where a batch's lines come from
window.py               how many of a batch's jobs may be out at once
lua/advance.lua         move a batch from one status to the next
lua/commit.lua          A planned write has reached the disk
lua/create.lua          make a batch, once
lua/fed.lua             lines were handed out, or closed
lua/lib/wake.lua        A tick that something has happened to is due before all that come round by themselves, …
lua/plan.lua            settle up to which result the next write goes, unless that is settled already
lua/rest.lua            A tick has been run
lua/retry.lua           start another round of a batch that has ended
lua/ticks.lua           take due ticks
lua/wake.lua            an idle tick has something to do
"""
