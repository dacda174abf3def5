"""Tables of `overnight.toml`, as the tests need them."""

from collections.abc import Mapping

#: A dollar for a million tokens of a prompt, two for a million of an answer.
PRICES = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0\n"

#: The agents of tests/support/agents.py.
AGENTS = 'agents = ["tests.support.agents"]\n'


def provider(
    base_url: str,
    name: str = "acme",
    *,
    api: str = "openai",
    key: str | None = '"env:ACME_KEY"',
    more: str = "",
    models: Mapping[str, str] | None = None,
) -> str:
    """A provider at an address: its key as TOML, None for no key; each model's lines, by default one model `small`."""
    tables = {"small": ""} if models is None else models
    api_key = f"api_key = {key}\n" if key else ""
    return f'[providers.{name}]\napi = "{api}"\nbase_url = "{base_url}"\n{api_key}{more}\n' + "".join(
        f"[providers.{name}.models.{model}]\n{lines}\n" for model, lines in tables.items()
    )
