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
    tables = {f"providers.{name}.models.{model}": lines for model, lines in (models or {}).items()}
    if models is None:
        tables = {f"providers.{name}.models.small": ""}
    head = [f'api = "{api}"', f'base_url = "{base_url}"', f"api_key = {key}" if key else "", more]
    sections = [f"[providers.{name}]", *head]
    for table, lines in tables.items():
        sections += [f"[{table}]", lines]
    return "".join(f"{each.strip()}\n" for each in sections if each.strip())
