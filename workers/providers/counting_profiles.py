"""How each provider counts the tokens of a call, with sources. limits/counting.py has the arithmetic."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

from limits.counting import Profile

# Why a forecast and not `max_tokens` if a provider counts what is generated: batch jobs state a `max_tokens` of several
# times their answers' length. Reserving that would leave most of it idle while each call runs. A forecast from the
# model's own answers is right on average: a longer answer becomes debt, a shorter one gives tokens back.
PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            Profile(
                "openai",
                tokens="larger",
                reserves="stated",
                refunds=False,
                source="platform.openai.com/docs/guides/rate-limits: the larger of max_tokens and an "
                "estimate from the request's characters; unsuccessful requests count. Cached prompts count "
                "(guides/prompt-caching)",
            ),
            Profile(
                "azure",
                tokens="sum",
                reserves="stated",
                refunds=False,
                source="learn.microsoft.com/azure/ai-foundry/openai/how-to/quota: when a request arrives, an "
                "estimate from the prompt, max_tokens and best_of is added",
            ),
            Profile(
                "anthropic",
                tokens="sum",
                reserves="expected",
                refunds=True,
                cached=False,
                source="docs.claude.com/en/api/rate-limits: input is estimated at the start and corrected; "
                "cache reads do not count on most models; output counts as it is generated and max_tokens "
                "does not factor in",
            ),
            Profile(
                "bedrock",
                tokens="sum",
                reserves="ceiling",
                refunds=True,
                cached=False,
                source="docs.aws.amazon.com/bedrock/latest/userguide/quotas-token-burndown.html: input, "
                "cache and max_tokens (or the model's maximum) are deducted at the start; input + cache "
                "writes + output x burndown rate remain deducted at the end",
            ),
            Profile(
                "gemini",
                tokens="input",
                reserves="expected",
                refunds=True,
                source="ai.google.dev/gemini-api/docs/rate-limits: requests and input tokens",
            ),
            Profile(
                "groq",
                tokens="sum",
                reserves="stated",
                refunds=True,
                cached=False,
                source="console.groq.com/docs/rate-limits: cached tokens do not count. Inferred from the "
                "`Requested` of its refusals: prompt + max_tokens count on arrival",
            ),
            Profile(
                "plain",
                tokens="sum",
                reserves="expected",
                refunds=True,
                source="our choice if a provider documents nothing: input and output as they turn out",
            ),
        )
    }
)

_BURNS_FIVE = re.compile(r"claude-(?:3-7-|(?:[a-z]+-)?(?:[4-9]|\d{2,})(?!\d))")
"""Bedrock's Claude models whose output burns five tokens of quota each: 3.7 and everything since.

docs.aws.amazon.com/bedrock/latest/userguide/quotas-token-burndown.html
"""


@lru_cache(maxsize=4096)
def profile(counting: str, model: str = "") -> Profile:
    """The profile called `counting`, for `model`. ValueError if there is none; it names those that exist."""
    found = PROFILES.get(counting)
    if found is None:
        raise ValueError(f"counting must be one of {', '.join(PROFILES)}: got {counting!r}")
    if counting == "bedrock" and _BURNS_FIVE.search(model):
        return replace(found, burn=5)
    return found
