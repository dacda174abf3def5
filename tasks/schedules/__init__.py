"""When a batch starts on its own.

beat.py      the process that starts what is due
calendar.py  when a schedule's runs are due: cron fields in a time zone
runs.py      which runs are due, and what became of each
run.py       one run: its input becomes a batch
lua/run.lua  record the state of a run
"""
