"""The settings of this process, read when they are first needed.

A command line can still name an `overnight.toml` after the application is imported.
"""

from functools import cache

from workers.config.settings import Settings, load


@cache
def current_settings() -> Settings:
    """The settings from `OVERNIGHT_CONFIG` or the working folder, read once."""
    return load(None)
