"""Follows the settings that someone changes while this worker runs: `overnight set`, and SIGHUP for the whole file."""

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from limits.client.async_connection import AsyncServer
from limits.keys import Keys
from workers.config import changes, current
from workers.config.changes import Change, Path
from workers.config.settings import Settings, SettingsError

if TYPE_CHECKING:
    import redis

log = logging.getLogger(__name__)

#: Seconds that changes are kept after the latest one.
LIFETIME: Final = 90 * 86_400


def read(client: "redis.Redis", keys: Keys) -> list[Change]:
    """All changes, the oldest first."""
    found: Any = client.hgetall(keys.changed_settings)
    return changes.decode(found)


def write(client: "redis.Redis", keys: Keys, change: Change) -> None:
    """Make a change: every worker follows it within seconds."""
    client.hset(keys.changed_settings, change.field, change.encode())
    client.expire(keys.changed_settings, LIFETIME)


def remove(client: "redis.Redis", keys: Keys, path: Path) -> bool:
    """Let the file count again. Returns False if there was no change."""
    return bool(client.hdel(keys.changed_settings, Change(path, None, None, 0.0).field))


def in_force(settings: Settings, client: "redis.Redis", keys: Keys) -> Settings:
    """The settings of a file with the changes that hold: what the workers use, if theirs is the same file."""
    found = read(client, keys)
    return settings.changed(found) if found else settings


class ChangedSettings:
    """What this worker has last seen of them."""

    def __init__(self, server: AsyncServer, keys: Keys) -> None:
        self._server = server
        self._keys = keys
        self._raw: dict[bytes, bytes] = {}
        self._asked = current.times_asked()

    async def look(self) -> None:
        """Replace this process's settings if something has changed, unless the result would be wrong."""
        found = await self._server.execute("HGETALL", self._keys.changed_settings)
        pairs = found.items() if isinstance(found, Mapping) else zip(found[::2], found[1::2], strict=True)
        raw, asked = dict(pairs), current.times_asked()
        if raw == self._raw and asked == self._asked:
            return
        by_file = asked != self._asked
        self._raw, self._asked = raw, asked
        try:
            await asyncio.to_thread(current.replace_settings, changes.decode(raw))
        except SettingsError as wrong:
            log.error("the changed configuration is not used, and the old one stays: %s", wrong)  # noqa: TRY400 - the message is enough
        else:
            log.warning("the configuration has changed%s", ": overnight.toml was read again" if by_file else "")
