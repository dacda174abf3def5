"""The command line: each command, and beside it how its results look.

cli.py             the command line
common.py          what the commands share
check.py           `overnight check`
local_workers.py   worker processes of this machine
progress.py        how a batch comes along, as a person watches it
view.py            what a person sees, on stderr
batches_view.py    what a person sees of batches
dead_view.py       what a person sees of messages that no worker could read
jobs_view.py       what a person sees of one job
limits_view.py     what a person sees of limits and costs
schedules_view.py  what a person sees of schedules
batches.py         `overnight run`, `submit`, `estimate`, `status`, `wait`, `results`, `cancel`, `retry`, `clean`
schedules.py       `overnight beat` and `overnight schedules`
dead.py            `overnight dead list`, `replay`, `drop`
init.py            `overnight init`
jobs.py            `overnight jobs`
services.py        `overnight worker` and `overnight check`
monitoring.py      `overnight flower` and `overnight metrics`
limits.py          `overnight limits` and `overnight costs`
"""
