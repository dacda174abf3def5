"""What a request can ask for that costs more than its tokens.

A more expensive tier multiplies the price. A tool that the provider hosts costs a fee for each use, and the model
decides how often it uses it. Another model that the provider falls back to has another price. An answer that costs more
than was held could exceed the budget. So all of these are refused under a budget, unless their price is configured.

Tiers and fees as of November 2026: https://platform.openai.com/docs/pricing (priority costs twice the standard price,
a web search 1 cent), https://platform.claude.com/docs/en/about-claude/pricing (fast mode, inference in the US, a web
search 1 cent), https://openrouter.ai/docs/guides/features/plugins, https://docs.x.ai/docs/guides/live-search,
https://console.groq.com/docs/compound, https://openrouter.ai/docs/guides/routing/model-fallbacks (priced by the model
that was ultimately used). Anything that is not known to be free counts as expensive.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, Final

from tasks.jobs.job import Line
from workers.config.settings import Settings
from workers.models import prices
from workers.models.routing import NoRoute, Route
from workers.providers.endpoints import MESSAGES

#: Fields that choose a tier, and their values that cost the standard price at most. OpenAI's `auto` is the setting of
#: its project, which is not visible here; Anthropic's is paid for in advance.
_TIERS: Final[Mapping[str, frozenset[str]]] = {
    "service_tier": frozenset({"auto", "default", "standard", "standard_only", "on_demand", "flex"}),
    "speed": frozenset({"standard"}),
    "inference_geo": frozenset({"global"}),
}

#: Fields that ask for a search or another service: of OpenAI's chats and Perplexity, of xAI, and of OpenRouter.
_SERVICES: Final = ("web_search_options", "search_parameters", "plugins")

#: The mode in which xAI does not search, which is free.
_NO_SEARCH: Final = "off"

#: Fields that list models which may answer instead of the body's own: OpenRouter's, of chats and of messages.
_FALLBACKS: Final = ("models", "fallbacks")

#: Tools that the client runs, and hosted ones that cost the tokens that they bring.
_FREE: Final = frozenset({"function", "custom", "mcp", "tool_search", "namespace", "local_shell", "apply_patch"})

#: The same, by prefix: `computer`, `computer_use_preview`, …
_FREE_PREFIX: Final = "computer"

#: Anthropic's free tools, whose names end in a date.
_FREE_OF_ANTHROPIC: Final = re.compile(r"custom|(?:bash|text_editor|computer|state|web_fetch|tool_search|mcp)_\w+")

#: Models that search without being asked: OpenAI's, any of OpenRouter's, and Groq's compound systems.
_SEARCHES: Final = re.compile(r"-search-(?:preview|api)\b|:online$|^(?:groq/compound|compound-beta)(?:-mini)?$")

#: Characters of the longest value that an error message repeats.
_LONGEST_SHOWN: Final = 60


class Surcharge(NoRoute):
    """A budget applies, and a call could cost more than its tokens."""

    code: ClassVar[str] = "no_price"


def check(settings: Settings, line: Line, routes: Iterable[Route]) -> None:
    """Raise Surcharge if a route could bill more for the line than its tokens. For jobs under a budget."""
    fee = _fee(line.url, line.body)
    for route in routes:
        due = fee or (f"the model {route.target}" if _SEARCHES.search(route.model) else "")
        others = _fallbacks(line.body, route.model)
        tier = _tier(line.body, route.tiers)
        if not due and not tier and not others:
            continue
        configured = prices.configured(settings.model(route.provider, route.model))
        if tier and configured is None:
            raise Surcharge(
                f"{route.target} has no price for {tier}, and a budget applies: leave it out, or write the "
                f"input_usd_per_mtok and output_usd_per_mtok that {route.target} costs with it"
            )
        if due and (configured is None or configured.highest):
            raise Surcharge(
                f"{due} costs a fee for each use beside its tokens, and a budget applies, which cannot hold it: "
                f"leave it out, or run the job where no budget applies"
            )
        if others and (configured is None or configured.highest):
            raise Surcharge(
                f"{others} lets other models than {route.target} answer, at prices of their own, and a budget applies, "
                f"which cannot hold them: leave it out, or run the job where no budget applies"
            )


def _tier(body: Mapping[str, Any], priced: Collection[str]) -> str:
    """The tier that a body asks for, in words; '' if it costs the standard price at most, or has one (`priced`)."""
    for field, known in _TIERS.items():
        value = body.get(field)
        prices = known.union(priced) if field == "service_tier" else known
        if value is not None and not (isinstance(value, str) and value.lower() in prices):
            return f"{field}{_shown(value)}"
    return ""


def _fee(url: str, body: Mapping[str, Any]) -> str:
    """The service with a fee that a body asks for, in words; '' if there isn't one."""
    for field in _SERVICES:
        if body.get(field) not in (None, []) and not _searches_nowhere(field, body[field]):
            return f"body.{field}"
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict) and not _is_free(url, tool):
            return f"the tool{_shown(tool.get('type'))}"
    return ""


def _searches_nowhere(field: str, value: Any) -> bool:
    return field == "search_parameters" and isinstance(value, dict) and value.get("mode") == _NO_SEARCH


def _fallbacks(body: Mapping[str, Any], model: str) -> str:
    """The field that lets other models than `model` answer, in words; '' if there isn't one."""
    for field in _FALLBACKS:
        value = body.get(field)
        # An entry may also change the body. Only a bare name is known to change no price.
        same = isinstance(value, list) and all(each in (model, {"model": model}) for each in value)
        if value is not None and not same:
            return f"body.{field}"
    return ""


def _is_free(url: str, tool: Mapping[str, Any]) -> bool:
    kind = tool.get("type")
    if url == MESSAGES:
        return kind is None or (isinstance(kind, str) and _FREE_OF_ANTHROPIC.fullmatch(kind) is not None)
    if kind is None:
        return "function" in tool
    return isinstance(kind, str) and (kind in _FREE or kind.startswith(_FREE_PREFIX))


def _shown(value: Any) -> str:
    """A short printable value in quotes; '' for anything else, since it may be private."""
    if isinstance(value, str) and len(value) <= _LONGEST_SHOWN and value.isprintable():
        return f' "{value}"'
    return ""
