"""`overnight init`: a first configuration that loads, for the keys that are in the environment."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.console.init import JOB_MODEL, LOCAL, PROVIDERS, KnownProvider, configuration
from tests.support.site import ROOT, job
from workers.config.settings import Settings, load


def variables(*providers: KnownProvider) -> dict[str, str]:
    """The environment that the providers ask for."""
    names = [name for provider in providers for name in (provider.key, provider.address) if name]
    return {name: "https://example.com" if name.endswith("ENDPOINT") else "a-key" for name in names}


def loaded(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    file = folder / "overnight.toml"
    file.write_text(text)
    return load(file)


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
def test_each_provider_gets_a_configuration_that_loads(
    provider: KnownProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = variables(provider)
    text, found = configuration(environment)
    settings = loaded(tmp_path, text, monkeypatch, environment)
    assert found == [provider]
    assert settings.missing_secrets() == []
    assert settings.find_model(JOB_MODEL) == [(provider.name, provider.model, 1.0)]
    assert "a-key" not in text


def test_all_keys_at_once_give_one_file_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = variables(*PROVIDERS)
    text, found = configuration(environment)
    settings = loaded(tmp_path, text, monkeypatch, environment)
    assert found == list(PROVIDERS)
    assert set(settings.providers) == {provider.name for provider in PROVIDERS}


def test_an_azure_key_alone_is_not_enough_for_azure() -> None:
    assert configuration({"AZURE_OPENAI_API_KEY": "a-key"})[1] == [LOCAL]


def overnight(folder: Path, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    known = {name for provider in PROVIDERS for name in (provider.key, provider.address)}
    kept = {
        name: value for name, value in os.environ.items() if name not in known and not name.startswith("OVERNIGHT_")
    }
    return subprocess.run(
        [sys.executable, "-P", "-m", "tasks", *words],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_writes_once_and_overwrites_nothing(tmp_path: Path) -> None:
    first = overnight(tmp_path, "init", GROQ_API_KEY="a-key")
    assert first.returncode == 0, first.stderr
    assert "Wrote overnight.toml for groq." in first.stderr
    assert "overnight check" in first.stderr
    written = (tmp_path / "overnight.toml").read_text()
    second = overnight(tmp_path, "init", OPENAI_API_KEY="a-key")
    assert second.returncode == 2
    assert "overnight.toml exists already and was left as it is" in second.stderr
    assert (tmp_path / "overnight.toml").read_text() == written


def test_a_run_without_a_configuration_names_init(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(json.dumps(job(1)).encode())
    ran = overnight(tmp_path, "run", "in.jsonl", "-o", "out.jsonl")
    assert ran.returncode == 2
    assert "overnight init" in ran.stderr
    assert "Traceback" not in ran.stderr
