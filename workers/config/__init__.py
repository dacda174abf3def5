"""overnight.toml: read and validated once, with errors that name the line to fix.

settings.py           `overnight.toml`
current.py            the settings of this process, read once
provider_settings.py  `[providers.NAME]` of `overnight.toml`
fields.py             what a key of the configuration may hold
units.py              durations, dollars and counts as a file may write them
problems.py           what is wrong with a configuration file, in words
consistency.py        names in the configuration that lead to nothing
credentials.py        what must not stand in a file
"""
