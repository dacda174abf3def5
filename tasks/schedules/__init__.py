"""When a batch starts on its own.

calendar.py  when the nights of a schedule are
runs.py      schedules
run.py       one night of a schedule
beat.py      beat
lua/run.lua  note how a night of a schedule stands
"""
