"""The client that sends a request: `[clients.NAME]`, found by its key.

Without configured clients the server listens on loopback only and accepts any key. A request still needs one: a page of
another site cannot add it unless the browser asks this server first.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from tasks.monitoring.flower.guard import is_loopback
from tasks.server.errors import ApiError, not_found, wrong_key
from workers.config.credentials import MissingSecretError
from workers.config.problems import SettingsError
from workers.config.settings import Settings
from workers.transport.queues import is_workflow_name


@dataclass(frozen=True, slots=True)
class Client:
    """A client and the workflows that it may use, its default first. `name` is '' if no clients are configured."""

    name: str
    workflows: tuple[str, ...] = ()

    def workflow(self, wanted: str | None) -> str:
        """The workflow for a request that asks for `wanted`. ApiError 404 if the client may not use it."""
        if wanted is None:
            return self.workflows[0] if self.workflows else "default"
        allowed = wanted in self.workflows if self.name else is_workflow_name(wanted)
        if not allowed:
            raise not_found(
                "This key may not use that workflow, or there is no such workflow.",
                param="metadata.workflow",
                code="unknown_workflow",
            )
        return wanted


#: The client of every request if no clients are configured.
ANYONE = Client("")


class Clients:
    """Finds a request's client. Raises SettingsError if a key is not set, or if two clients share a key."""

    def __init__(self, settings: Settings) -> None:
        self._keys: list[tuple[bytes, Client]] = []
        problems = []
        owners: dict[bytes, str] = {}
        for name, each in settings.clients.items():
            for reference in each.key:
                try:
                    digest = _digest(reference.value())
                except MissingSecretError as exc:
                    problems.append(f"{exc} (clients.{name}.key)")
                    continue
                if owners.setdefault(digest, name) != name:
                    problems.append(f"clients.{name}.key ({reference}) is also a key of clients.{owners[digest]}")
                self._keys.append((digest, Client(name, each.workflows)))
        if problems:
            raise SettingsError(problems)

    @property
    def configured(self) -> bool:
        """Whether any clients are configured."""
        return bool(self._keys)

    def find(self, headers: Mapping[str, str]) -> Client:
        """The client that sends a request with these headers. ApiError 401 if no client has its key."""
        key = _key(headers)
        if not key:
            raise wrong_key()
        if not self._keys:
            if not is_loopback(_host(headers)):
                raise ApiError(403, "Without [clients] in overnight.toml, only this machine may use this server.")
            return ANYONE
        digest, found = _digest(key), None
        for known, client in self._keys:  # compare with every key, so that the time reveals nothing
            if hmac.compare_digest(known, digest):
                found = client
        if found is None:
            raise wrong_key()
        return found


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


def _key(headers: Mapping[str, str]) -> str:
    """The key, from the header of OpenAI's SDKs or of Anthropic's; '' if neither is there."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return headers.get("x-api-key", "").strip()


def _host(headers: Mapping[str, str]) -> str:
    """The host's name, without the port."""
    host = headers.get("host", "")
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
