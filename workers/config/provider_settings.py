"""`[providers.NAME]` of `overnight.toml`: an account, its keys and limits, and its models."""

from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from limits.bucket import Quota
from workers.config import fields
from workers.config.credentials import MissingSecretError, Reference, reference
from workers.config.fields import CallSeconds, Count, ModelName, Price
from workers.config.problems import SettingsError
from workers.providers.endpoints import LARGEST_REQUEST_MB

#: Where each API is; Azure's is different for everyone.
BASE_URLS: Final = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}


class Table(BaseModel):
    """A table of the file: frozen, closed to unknown keys; its errors never repeat what was written."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, populate_by_name=True)


class _Limits(Table):
    """What a provider allows; a dimension that is absent is unlimited."""

    rpm: Count | None = Field(default=None, description="requests a minute")
    tpm: Count | None = Field(default=None, description="tokens a minute")
    itpm: Count | None = Field(default=None, description="input tokens a minute")
    otpm: Count | None = Field(default=None, description="output tokens a minute")
    rpd: Count | None = Field(default=None, description="requests a day")
    tpd: Count | None = Field(default=None, description="tokens a day")
    concurrency: Count | None = Field(default=None, description="calls in flight")
    burst: fields.Burst = "auto"
    headroom: fields.Headroom = "auto"

    def quota(self) -> Quota | None:
        """The limits as the admission takes them."""
        return Quota(**{name: getattr(self, name) for name in _Limits.model_fields})


class ModelQuota(_Limits):
    """A model of a provider: its own limits, and its price where the price table's is not ours."""

    input_usd_per_mtok: Price | None = None
    output_usd_per_mtok: Price | None = None

    def quota(self) -> Quota:
        """The limits as the admission takes them; none is a quota without limits."""
        quota = super().quota()
        assert quota is not None
        return quota


class ProviderSettings(_Limits):
    """An account at a provider. Limits that stand here are shared by all of its models."""

    api: Literal["openai", "azure", "anthropic"]
    counting: Literal["openai", "azure", "anthropic", "bedrock", "gemini", "groq", "plain"] | None = None
    address: str | Reference | None = Field(default=None, alias="base_url", repr=False)
    api_version: str | None = Field(default=None, pattern=r"^[0-9A-Za-z._-]+$")
    api_key: tuple[Reference, ...] = ()
    shared_quota: bool = Field(default=False, strict=True)
    rate_limit_headers: Literal["follow", "ignore"] = "follow"
    timeout: CallSeconds = 120.0
    max_request_mb: int | None = Field(default=None, ge=1, le=50, strict=True, description="MB of a request")
    models: dict[ModelName, ModelQuota] = {}

    @field_validator("api_key", mode="before")
    @classmethod
    def _by_reference(cls, value: Any, info: ValidationInfo) -> Any:
        # A default, or a copy of other settings.
        if isinstance(value, tuple):
            return value
        texts = value if isinstance(value, list) else [value]
        found = [reference(text, fields.folder(info)) for text in texts if isinstance(text, str)]
        if not found or len(found) != len(texts) or None in found:
            raise ValueError(
                'must be "env:NAME" or "file:PATH", or a list of these: '
                'a key stands in no configuration file; put it into the environment and write "env:NAME"'
            )
        if len(set(found)) != len(found):
            raise ValueError("names the same key twice")
        return tuple(found)

    @field_validator("address", mode="before")
    @classmethod
    def _address(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None or isinstance(value, Reference):
            return value
        if not isinstance(value, str):
            raise ValueError(fields.ADDRESS)  # noqa: TRY004 - pydantic reports ValueErrors
        found = reference(value, fields.folder(info))
        return found if found is not None else fields.http_address(value)

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.address is None and self.api not in BASE_URLS:
            raise PydanticCustomError(
                "missing_key", 'base_url is missing: write base_url = "https://…" of your resource'
            )
        if self.address is None and not self.api_key:
            raise PydanticCustomError(
                "missing_key",
                'api_key is missing: write api_key = "env:NAME", and the key into that variable',
            )
        return self

    @property
    def base_url(self) -> str:
        """Where the provider is; SettingsError where that is a reference to nothing."""
        if isinstance(self.address, Reference):
            try:
                return fields.http_address(self.address.value())
            except (MissingSecretError, ValueError) as exc:
                raise SettingsError([f"base_url ({self.address}): {exc}"]) from None
        return self.address or BASE_URLS[self.api]

    @property
    def largest_request(self) -> int:
        """The bytes that a request may have."""
        return (self.max_request_mb or LARGEST_REQUEST_MB[self.api]) * 1_000_000

    @property
    def counting_name(self) -> str:
        """How the provider counts tokens (limits/counting.py); by `api` where nothing is said."""
        return self.counting or self.api

    @property
    def key_count(self) -> int:
        """How many keys it has; 0 for one that asks for none."""
        return len(self.api_key)

    def key(self, number: int) -> str:
        """One of the keys, '' where the provider asks for none; SettingsError where it is not there."""
        if not self.api_key:
            return ""
        try:
            return self.api_key[number].value()
        except MissingSecretError as exc:
            raise SettingsError([f"api_key: {exc}"]) from None

    def keys(self) -> list[str]:
        """The keys themselves; SettingsError where one is not there."""
        return [self.key(number) for number in range(self.key_count)]

    def quota(self) -> Quota | None:
        """The limits of the whole account, None where there are none."""
        quota = super().quota()
        return quota if quota is not None and (quota.limits or quota.concurrency is not None) else None
