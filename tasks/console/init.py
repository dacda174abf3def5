"""`overnight init`: a first overnight.toml, for the providers whose keys are in the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tasks.console import view
from tasks.console.exit_status import fail

#: The model name that the written configuration offers to jobs.
JOB_MODEL = "small"


@dataclass(frozen=True, slots=True)
class KnownProvider:
    """A provider that `init` can write a table for.

    `key` and `address` are environment variables; `address` is empty if the provider has a fixed `base_url`.
    """

    name: str
    api: str
    key: str
    model: str
    base_url: str = ""
    address: str = ""

    def usable(self, environment: Mapping[str, str]) -> bool:
        """Whether every variable that the provider needs is set."""
        return all(environment.get(variable, "").strip() for variable in (self.key, self.address) if variable)

    def tables(self) -> str:
        """The provider's part of overnight.toml."""
        lines = [f"[providers.{self.name}]", f'api      = "{self.api}"']
        if base_url := f"env:{self.address}" if self.address else self.base_url:
            lines.append(f'base_url = "{base_url}"')
        if self.key:
            lines.append(f'api_key  = "env:{self.key}"')
        lines += [
            "",
            f'[providers.{self.name}.models."{self.model}"]',
            "# rpm = 500          # your account's limits: requests a minute,",
            "# tpm = 200_000      # tokens a minute, calls in flight; a limit that is left out is learned",
            "# concurrency = 50",
        ]
        return "\n".join(lines)


#: Addresses and model names: each provider's API reference. The first one that is usable serves `JOB_MODEL`.
PROVIDERS = (
    KnownProvider("openai", "openai", "OPENAI_API_KEY", "gpt-4o-mini"),
    KnownProvider("azure", "azure", "AZURE_OPENAI_API_KEY", "gpt-4o-mini", address="AZURE_OPENAI_ENDPOINT"),
    KnownProvider("anthropic", "anthropic", "ANTHROPIC_API_KEY", "claude-haiku-4-5"),
    KnownProvider("groq", "openai", "GROQ_API_KEY", "llama-3.1-8b-instant", "https://api.groq.com/openai/v1"),
    KnownProvider(
        "gemini",
        "openai",
        "GEMINI_API_KEY",
        "gemini-2.5-flash-lite",
        "https://generativelanguage.googleapis.com/v1beta/openai",
    ),
    KnownProvider("openrouter", "openai", "OPENROUTER_API_KEY", "openai/gpt-4o-mini", "https://openrouter.ai/api/v1"),
    KnownProvider("mistral", "openai", "MISTRAL_API_KEY", "mistral-small-latest", "https://api.mistral.ai/v1"),
)

#: Written if no key is set: a server on this machine, such as llama.cpp, vLLM or Ollama, asks for none.
LOCAL = KnownProvider("local", "openai", "", "my-model", "http://127.0.0.1:8000/v1")

HEAD = """\
# Overnight's configuration. Every key is explained in docs/configuration.md; `overnight check` checks this file.
# Keys never appear here: "env:NAME" names the environment variable that holds one.
"""

TAIL = """\
[models.{job_model}]              # the name that jobs ask for; several targets share the work
targets = [{{ provider = "{provider}", model = "{model}" }}]

[workflows.nightly]
budget_usd    = 10.0        # hard: a call that could exceed it is not sent
budget_window = "day"
deadline      = "24h"
"""


def configuration(environment: Mapping[str, str]) -> tuple[str, list[KnownProvider]]:
    """The text of a first overnight.toml, and the providers it holds."""
    found = [provider for provider in PROVIDERS if provider.usable(environment)] or [LOCAL]
    tail = TAIL.format(job_model=JOB_MODEL, provider=found[0].name, model=found[0].model)
    return "\n\n".join([HEAD.rstrip("\n"), *(provider.tables() for provider in found), tail]), found


def init(
    config: Annotated[Path, typer.Option("--config", help="Where to write it.")] = Path("overnight.toml"),
) -> None:
    """Write a first overnight.toml for the provider keys that are set in the environment."""
    text, found = configuration(os.environ)
    try:
        with config.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        fail(f"{config} exists already and was left as it is; remove it first, or name another file with --config")
    except OSError as exc:
        fail(f"{config} cannot be written: {exc.strerror}")
    names = ", ".join(provider.name for provider in found)
    if found == [LOCAL]:
        variables = ", ".join(provider.key for provider in PROVIDERS)
        view.say(f"No provider key is set ({variables}).")
        view.say(f"Wrote {config} for a server on this machine: change its base_url and model first.")
    else:
        view.say(f"Wrote {config} for {names}.")
    view.say("Next: overnight check")
    view.say("      overnight run IN.jsonl -o OUT.jsonl -w nightly")
