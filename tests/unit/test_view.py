"""Output to a terminal contains no escape sequence of an answer, a name or a key."""

import re
from pathlib import Path

import pytest

import tasks
from tasks.console import schedules_view, view
from tasks.console.view import print_json

HOSTILE = "a\x1b]52;c;cHduZWQ=\x07b\x1b[2J\x9b31mc\r\nd\x7f[red]e[/] \udcff"


def test_foreign_text_loses_control_characters_and_markup(capsys: pytest.CaptureFixture[str]) -> None:
    view.say(HOSTILE)
    view.error(HOSTILE)
    shown = capsys.readouterr().err
    assert re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", shown) == []
    assert "[red]e[/]" in shown
    assert "a\N{REPLACEMENT CHARACTER}]52;c;" in shown


def test_json_escapes_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_json({"key": "a\x1b[2J\x9b31m\x7f"})
    assert r"a\u001b[2J\u009b31m\u007f" in capsys.readouterr().out


def test_only_the_view_module_uses_richs_own_escape() -> None:
    files = [path for path in Path(tasks.__path__[0]).rglob("*.py") if "rich.markup" in path.read_text()]
    assert [path.name for path in files] == ["view.py"]


def test_without_schedules_the_view_names_the_table_to_add(capsys: pytest.CaptureFixture[str]) -> None:
    schedules_view.table([], beat=True)
    assert "add a [schedules.NAME] table" in capsys.readouterr().err
