"""The Batch API of a provider, by its api and its address (batch_kinds.py)."""

# httpx takes 0.2 s to import, which code that only asks whether there is a Batch API should not wait for.
# ruff: noqa: PLC0415
from typing import TYPE_CHECKING

from workers.providers.batch_api import BatchApi
from workers.providers.batch_kinds import kind_of

if TYPE_CHECKING:
    from workers.config.provider_settings import ProviderSettings


def batch_api(name: str, settings: "ProviderSettings") -> BatchApi | None:
    """The Batch API of the provider that the configuration calls `name`; None if it has none that is known here."""
    base, timeout = settings.base_url, settings.timeout
    match kind_of(settings.api, base):
        case "azure":
            from workers.providers.batch_azure import AzureBatches

            return AzureBatches(name, base, timeout, settings.api_version)
        case "anthropic":
            from workers.providers.batch_anthropic import AnthropicBatches

            return AnthropicBatches(name, base, timeout, settings.api_version)
        case "gemini":
            from workers.providers.batch_gemini import GeminiBatches

            return GeminiBatches(name, base, timeout)
        case "mistral":
            from workers.providers.batch_mistral import MistralBatches

            return MistralBatches(name, base, timeout)
        case "together" | "groq" as kind:
            from workers.providers.batch_together import GroqBatches, TogetherBatches

            return (TogetherBatches if kind == "together" else GroqBatches)(name, base, timeout)
        case "openai":
            from workers.providers.batch_openai import OpenAIBatches

            return OpenAIBatches(name, base, timeout)
    return None
