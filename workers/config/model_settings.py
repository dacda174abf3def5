"""`[models.NAME]` of `overnight.toml`, and what to say about a model's name that nothing configures."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from pydantic import Field

from workers.config.fields import ModelName, Name, Weight
from workers.config.provider_settings import ProviderSettings, Table

FILE_NAME: Final = "overnight.toml"

#: Longer names are not repeated in messages. Characters.
_LONGEST_SHOWN: Final = 80


class UnknownModel(LookupError):  # noqa: N818 - named after what happened
    """No provider is configured for a model's name. The message lists the names that are."""


class Target(Table):
    """A provider's model that takes a share of the calls of a name."""

    provider: Name
    model: ModelName
    weight: Weight = 1.0


class ModelSettings(Table):
    """A name that jobs may use as their `model`, and the targets behind it."""

    targets: list[Target] = Field(min_length=1)


def unknown_model(
    name: str,
    providers: Mapping[str, ProviderSettings],
    listed_by: Sequence[str],
    known: Sequence[str],
    file: Path | None,
) -> UnknownModel:
    """The error for a name that leads to no model, or to several.

    `listed_by` are the providers that list it, `known` all configured names, `file` the configuration, if there is one.
    """
    return UnknownModel(_reason(name, providers, listed_by, known, file))


def _reason(
    name: str,
    providers: Mapping[str, ProviderSettings],
    listed_by: Sequence[str],
    known: Sequence[str],
    file: Path | None,
) -> str:
    shown = f'"{name}"' if len(name) <= _LONGEST_SHOWN and name.isprintable() else "that"
    provider, _, model = name.partition("/")
    if model and provider in providers:
        return f"{shown} is not listed: add [providers.{table_key(provider)}.models] for it, or unlisted_models = true"
    if not providers:
        where = f"in {file}" if file else f"there is no {FILE_NAME} here"
        fix = "add a [providers.NAME] table" if file else "`overnight init` writes a first one"
        return f"no provider is configured ({where}), so no model {shown} can be called; {fix}"
    if listed_by:
        choices = " or ".join(f'"{each}/{name}"' for each in listed_by)
        return f"{shown} is listed by several providers: write {choices}, or define a mix of them under [models]"
    near = get_close_matches(name, known, 3, 0.6)
    if near:
        return f"no model {shown} is configured; did you mean {' or '.join(near)}?"
    names = ", ".join(known[:8]) or f"{next(iter(providers))}/MODEL"
    return f"no model {shown} is configured; there are: {names}"


def table_key(name: str) -> str:
    """A name as TOML wants it in the header of a table."""
    return f'"{name}"' if "." in name else name
