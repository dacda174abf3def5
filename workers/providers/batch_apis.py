"""Which providers have a Batch API that is known here."""

from typing import TYPE_CHECKING

from workers.providers.batch_api import BatchApi

if TYPE_CHECKING:
    from workers.config.provider_settings import ProviderSettings


def batch_api(name: str, settings: "ProviderSettings") -> BatchApi | None:
    """The Batch API of the provider that the configuration calls `name`; None if it has none that is known here."""
    if settings.api == "openai":
        from workers.providers.batch_openai import OpenAIBatches  # noqa: PLC0415  # httpx takes 0.2 s to import

        return OpenAIBatches(name, settings.base_url, settings.timeout)
    return None
