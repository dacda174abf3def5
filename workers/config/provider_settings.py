"""`[providers.NAME]` of `overnight.toml`: an API, its keys, its limits and its models."""

from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from limits.bucket import Quota
from workers.config import fields
from workers.config.credentials import MissingSecretError, Reference, reference
from workers.config.fields import CallSeconds, Count, ModelName, Price, Seconds
from workers.config.problems import SettingsError
from workers.providers.batch_kinds import kind_of
from workers.providers.endpoints import LARGEST_REQUEST_MB
from workers.providers.prompt_prefix import takes_cache_key

#: Each API's address. Azure has one for each resource.
BASE_URLS: Final = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}


class Table(BaseModel):
    """A table of the file: frozen, without unknown keys. Its errors never repeat what was written."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, populate_by_name=True)


class _Limits(Table):
    """What a provider allows. An absent dimension is unlimited."""

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
        """The limits as admission takes them."""
        return Quota(**{name: getattr(self, name) for name in _Limits.model_fields})


class ModelQuota(_Limits):
    """A provider's model: its own limits, and its prices in dollars per million tokens instead of the price table's."""

    input_usd_per_mtok: Price | None = None
    output_usd_per_mtok: Price | None = None
    cached_usd_per_mtok: Price | None = None
    """Input that the provider reads from its prompt cache. None: as other input."""
    cache_write_usd_per_mtok: Price | None = None
    """Input that it writes to its prompt cache. None: as other input."""
    batch_enqueued_tokens: Count | None = None
    """Input tokens that the account may have in the Batch API's queue. None: learned from refusals."""
    batch_price: fields.Share | None = None
    """The Batch API's price as a part of the live price. None: the price table's, else a half."""
    flex_price: fields.Share | None = None
    """The flex tier's price as a part of the live price. None: the price table's; a model without any has no flex."""

    @model_validator(mode="after")
    def _cache_of_priced(self) -> Self:
        cache = self.cached_usd_per_mtok is not None or self.cache_write_usd_per_mtok is not None
        if cache and (self.input_usd_per_mtok is None or self.output_usd_per_mtok is None):
            raise PydanticCustomError(
                "incomplete_prices",
                "prices of the prompt cache need the others: write input_usd_per_mtok and output_usd_per_mtok, too",
            )
        return self

    def quota(self) -> Quota:
        """The limits as admission takes them; a quota without limits if there are none."""
        quota = super().quota()
        assert quota is not None
        return quota


class ProviderSettings(_Limits):
    """A provider. All of its models share the limits that are set here."""

    api: Literal["openai", "azure", "anthropic"]
    counting: Literal["openai", "azure", "anthropic", "bedrock", "gemini", "groq", "plain"] | None = None
    address: str | Reference | None = Field(default=None, alias="base_url", repr=False)
    api_version: str | None = Field(default=None, pattern=r"^[0-9A-Za-z._-]+$")
    api_key: tuple[Reference, ...] = ()
    shared_quota: bool = Field(default=False, strict=True)
    rate_limit_headers: Literal["follow", "ignore"] = "follow"
    timeout: CallSeconds = 120.0
    flex_timeout: CallSeconds = 900.0
    """Seconds that a call in the flex tier may take."""
    max_request_mb: int | None = Field(default=None, ge=1, le=50, strict=True, description="MB of a request")
    batch_queued_requests: Count | None = None
    """Requests that the account may have in the Batch API's queue. None: as the lowest tier of the provider."""
    batch_poll: Seconds = 30.0
    """Seconds between two looks at a provider batch."""
    batch_cancel_time: Seconds = 900.0
    """Seconds that the provider takes at most to cancel a provider batch."""
    models: dict[ModelName, ModelQuota] = {}

    @field_validator("api_key", mode="before")
    @classmethod
    def _by_reference(cls, value: Any, info: ValidationInfo) -> Any:
        # The default, or a copy of other settings.
        if isinstance(value, tuple):
            return value
        texts = value if isinstance(value, list) else [value]
        found = [reference(text, fields.folder(info)) for text in texts if isinstance(text, str)]
        if not found or len(found) != len(texts) or None in found:
            raise ValueError(
                'must be "env:NAME" or "file:PATH", or a list of these: '
                'keep keys out of the file; put the key into the environment and write "env:NAME"'
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
                "missing_key", 'base_url is missing: write base_url = "https://…", the address of your resource'
            )
        if self.address is None and not self.api_key:
            raise PydanticCustomError(
                "missing_key",
                'api_key is missing: write api_key = "env:NAME" and put the key into that variable',
            )
        return self

    @property
    def base_url(self) -> str:
        """The provider's address. Raises SettingsError if it is a reference without a value."""
        if isinstance(self.address, Reference):
            try:
                return fields.http_address(self.address.value())
            except (MissingSecretError, ValueError) as exc:
                raise SettingsError([f"base_url ({self.address}): {exc}"]) from None
        return self.address or BASE_URLS[self.api]

    @property
    def largest_request(self) -> int:
        """The largest request, in bytes."""
        return (self.max_request_mb or LARGEST_REQUEST_MB[self.api]) * 1_000_000

    @property
    def batch_kind(self) -> str:
        """The kind of its Batch API (workers/providers/batch_kinds.py); '' if it has none, or no address yet."""
        try:
            return kind_of(self.api, self.base_url)
        except SettingsError:
            return ""

    @property
    def takes_cache_key(self) -> bool:
        """Whether requests may have a `prompt_cache_key`."""
        try:
            return takes_cache_key(self.api, self.base_url)
        except SettingsError:
            return False

    @property
    def counting_name(self) -> str:
        """How the provider counts tokens (limits/counting.py): `counting`, else its `api`."""
        return self.counting or self.api

    @property
    def key_count(self) -> int:
        """The number of keys; 0 for a provider that needs none."""
        return len(self.api_key)

    def key(self, number: int) -> str:
        """The key with this number, '' if the provider needs none. Raises SettingsError if it is not set."""
        if not self.api_key:
            return ""
        try:
            return self.api_key[number].value()
        except MissingSecretError as exc:
            raise SettingsError([f"api_key: {exc}"]) from None

    def keys(self) -> list[str]:
        """All keys. Raises SettingsError if one is not set."""
        return [self.key(number) for number in range(self.key_count)]

    def quota(self) -> Quota | None:
        """The limits of the whole account, None if it has none."""
        quota = super().quota()
        return quota if quota is not None and (quota.limits or quota.concurrency is not None) else None
