"""The environment of a process that Overnight starts."""

import os
import site

import pytest

from workers import child_process


def test_a_checkout_comes_first_on_the_python_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mine")
    assert child_process.environment()["PYTHONPATH"] == f"{child_process.ROOT}{os.pathsep}/mine"


@pytest.mark.parametrize("given", ["/mine", None])
def test_an_installed_overnight_keeps_the_python_path(monkeypatch: pytest.MonkeyPatch, given: str | None) -> None:
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(child_process.ROOT)])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if given:
        monkeypatch.setenv("PYTHONPATH", given)
    assert child_process.environment().get("PYTHONPATH") == given
