"""The settings of this process, read when they are first needed.

A command line can still name an `overnight.toml` after the application is imported. They are replaced if someone
changes a setting (`overnight set`) or asks for the file to be read again (SIGHUP).
"""

from collections.abc import Sequence

from workers.config.changes import Change
from workers.config.settings import Settings, load


class _Current:
    settings: Settings | None = None
    asked = 0  # how often someone has asked for the file to be read again


def current_settings() -> Settings:
    """The settings from `OVERNIGHT_CONFIG` or the working folder, read once."""
    if _Current.settings is None:
        _Current.settings = load(None)
    return _Current.settings


def replace_settings(changed: Sequence[Change]) -> Settings:
    """Read the file again, with settings that someone has changed. Raises SettingsError, and keeps the old ones."""
    _Current.settings = load(None, changed)
    return _Current.settings


def ask_again(*_: object) -> None:
    """Ask for the file to be read again: a signal's handler."""
    _Current.asked += 1


def times_asked() -> int:
    """How often someone has asked for the file to be read again."""
    return _Current.asked
