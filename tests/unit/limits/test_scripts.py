"""Scripts are put together from fragments, each once, and every script of limits/ has its header."""

import hashlib
from importlib.resources import files

import pytest

from limits.client.scripts import Script, compose, load, read

SCRIPTS = sorted(path.name for path in files("limits").joinpath("lua").iterdir() if path.name.endswith(".lua"))


def test_an_include_becomes_the_file() -> None:
    text = compose("first\n--@include a\nlast\n", {"a": "local a = 1"}.__getitem__)
    assert text == "first\nlocal a = 1\nlast\n"


def test_includes_nest_and_each_file_comes_once() -> None:
    fragments = {"a": "--@include c\nA\n--@include b", "b": "--@include c\nB", "c": "C"}
    text = compose("--@include a\n--@include b\n--@include c\nend\n", fragments.__getitem__)
    assert [line for line in text.splitlines() if line] == ["C", "A", "B", "end"]


@pytest.mark.parametrize("line", ["-- @include a", "  --@include a", "--@include", "x --@include a"])
def test_only_a_line_of_its_own_includes(line: str) -> None:
    assert compose(f"{line}\n", {}.__getitem__) == f"{line}\n"


def test_a_script_is_named_by_its_sha1() -> None:
    script = Script("x", "return 1")
    assert script.sha == hashlib.sha1(b"return 1", usedforsecurity=False).hexdigest()


def test_a_script_is_read_once() -> None:
    assert load("limits/lua/admit.lua") is load("limits/lua/admit.lua")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError):
        load("limits/lua/nothing.lua")


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_says_what_it_does(name: str) -> None:
    head = read(f"limits/lua/{name}").partition("--@include")[0]
    for part in ("-- Guarantee: ", "-- KEYS  1 the clock", "-- ARGV  1 the time in us", "-- Returns "):
        assert part in head
