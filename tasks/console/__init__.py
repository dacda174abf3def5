"""The command line: each command, and beside it how its results look.

cli.py             the command line: every command by its name
options.py         options and arguments that several commands share
session.py         what a command works with: the configuration, a batch, and what that batch waits for
exit_status.py     exit statuses, and the message for each error that a user can fix
view.py            what all views share: escaped text, tables, moments and durations
progress.py        the progress bar of a batch
init.py            `overnight init`
services.py        `overnight worker` and `overnight check`
check.py           what `overnight check` looks at
run.py             `overnight run`
batches.py         `overnight submit`, `estimate`, `status`, `wait`, `results`, `cancel`, `retry`, `clean`
pauses.py          `overnight pause` and `overnight resume`
batches_view.py    how batches look
checks_view.py     how the checks of a batch's answers look
pilot.py           a pilot: waits for it, shows it, and goes on or not
lanes_view.py      how the lanes of a batch look
local_workers.py   the worker processes of `overnight run` and `overnight worker`
jobs.py            `overnight jobs`
jobs_view.py       how a job report looks
changing.py        `overnight set`
limits.py          `overnight limits` and `overnight costs`
limits_view.py     how limits and costs look
dead.py            `overnight dead list`, `replay`, `drop`
dead_view.py       how dead letters look
schedules.py       `overnight beat` and `overnight schedules`
schedules_view.py  how schedules look
server.py          `overnight serve`
monitoring.py      `overnight flower` and `overnight metrics`
"""
