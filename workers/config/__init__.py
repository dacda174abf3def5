"""overnight.toml: read and validated once, with errors that name the line to fix.

current.py            the settings of this process, read once
settings.py           the whole file: `load` and `Settings`
changes.py            settings that someone has changed while workers run
problems.py           reads TOML, and words what is wrong with it
provider_settings.py  [providers.NAME]
model_settings.py     [models.NAME]
workflow_settings.py  [workflows.NAME]
schedule_settings.py  [schedules.NAME]
server_settings.py    [server], [clients.NAME] and [webhooks.NAME]
fields.py             the types of values
units.py              durations, dollars and counts
credentials.py        secrets by reference
consistency.py        names that nothing defines
"""
