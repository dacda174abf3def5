"""`[server]`, `[clients.NAME]` and `[webhooks.NAME]` of `overnight.toml`: the HTTP server, its users, its webhooks."""

from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from workers.config import fields
from workers.config.credentials import Reference, reference
from workers.config.fields import Name
from workers.config.provider_settings import Table


class ServerSettings(Table):
    """Limits of the HTTP server."""

    max_upload_mb: Annotated[int, Field(ge=1, le=50_000, strict=True)] = 512  # S3 takes 10,000 pieces of 5 MiB
    """The largest file that a client may upload, in MB."""
    max_bodies_mb: Annotated[int, Field(ge=64, le=100_000, strict=True)] = 512
    """The bodies of one client's requests that are in memory at a time, in MB."""


class ClientSettings(Table):
    """A client of the server: its keys, and the workflows that it may use, its default first."""

    key: tuple[Reference, ...] = Field(repr=False)
    workflows: Annotated[tuple[Name, ...], Field(min_length=1)]

    @field_validator("key", mode="before")
    @classmethod
    def _by_reference(cls, value: Any, info: ValidationInfo) -> Any:
        return _references(value, info)


class WebhookSettings(Table):
    """An address that is called when a batch ends."""

    url: str
    secret: tuple[Reference, ...] = Field(repr=False)
    workflows: tuple[Name, ...] | None = None
    """Only ends of these workflows' batches are sent; None means all."""
    allow_private: bool = Field(default=False, strict=True)
    """Whether the address may be in a private network."""

    @field_validator("url", mode="after")
    @classmethod
    def _address(cls, value: str) -> str:
        return fields.webhook_address(value)

    @field_validator("secret", mode="before")
    @classmethod
    def _by_reference(cls, value: Any, info: ValidationInfo) -> Any:
        return _references(value, info)


def _references(value: Any, info: ValidationInfo) -> tuple[Reference, ...]:
    """One or more references to secrets."""
    if isinstance(value, tuple):  # a copy of other settings
        return value
    texts = value if isinstance(value, list) else [value]
    found = tuple(reference(text, fields.folder(info)) for text in texts if isinstance(text, str))
    sound = tuple(each for each in found if each is not None)
    if not sound or len(sound) != len(texts):
        raise ValueError('must be "env:NAME" or "file:PATH", or a list of these: keep secrets out of the file')
    return sound
