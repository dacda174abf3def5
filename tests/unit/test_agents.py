"""The parts of agents that need no server: names, positions, values, caps and replies."""

import asyncio
import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from tasks.agents import registry
from tasks.agents.json_values import Unwritable, decode, digest, encode, error_text
from tasks.agents.position import Branch, current, order
from tasks.agents.reply import Embeddings, Reply
from tasks.jobs.spending_cap import OverCap, SpendingCap
from workers.config.settings import Settings, SettingsError, load
from workers.models.routing import NoRoute

_names = itertools.count()


def configured(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A configuration with one module of agents, which contains this text."""
    name = f"agents_of_test_{next(_names)}"
    (folder / f"{name}.py").write_text(text)
    (folder / "overnight.toml").write_text(f'agents = ["{name}"]')
    monkeypatch.setattr(registry, "_agents", {})
    monkeypatch.setattr("sys.path", [str(folder)])
    return load(folder / "overnight.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("@agent\ndef plain(body, llm): ...", "must be a coroutine: async def"),
        ("@agent\nasync def lonely(body): ...", "must take two arguments"),
        ("@agent(name='a b')\nasync def x(body, llm): ...", "'a b' is no name"),
        ("@agent(name='x')\nasync def a(body, llm): ...\n@agent(name='x')\nasync def b(body, llm): ...", "two agents"),
        ("raise OSError('no disk')", "OSError: no disk"),
        ("def x(:", "SyntaxError"),
    ],
)
def test_what_cannot_be_an_agent_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    settings = configured(tmp_path, f"from tasks import agent\n{text}\n", monkeypatch)
    with pytest.raises(SettingsError, match="cannot be imported") as caught:
        registry.load(settings)
    assert words in str(caught.value)


def test_a_mistyped_agent_name_gets_a_suggestion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = "@agent\nasync def triage(body, llm): ...\n", "@agent(name='Two.1')\nasync def b(x, y): ...\n"
    settings = configured(tmp_path, f"from tasks import agent\n{first}{second}", monkeypatch)
    assert registry.find(settings, "Two.1", "w").location.endswith(".b")
    with pytest.raises(NoRoute, match="did you mean triage"):
        registry.find(settings, "triages", "w")
    with pytest.raises(NoRoute, match="name the module that holds it"):
        registry.find(Settings(), "nothing", "w")


@pytest.mark.parametrize(
    ("tables", "allowed"),
    [
        ("", {"open": True, "support": True, "nowhere": True}),
        ('[workflows.support]\nagents = ["triage"]\n', {"open": False, "support": True, "nowhere": False}),
        ("[workflows.support]\nagents = []\n", {"open": False, "support": False, "nowhere": False}),
        ('[workflows.support]\nagents = ["triage"]\n[workflows.open]\n', {"open": False, "support": True}),
    ],
)
def test_a_workflow_calls_only_the_agents_it_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: str, allowed: dict[str, bool]
) -> None:
    settings = configured(tmp_path, "from tasks import agent\n@agent\nasync def triage(body, llm): ...\n", monkeypatch)
    (tmp_path / "overnight.toml").write_text(f'agents = ["{settings.agents[0]}"]\n{tables}')
    settings = load(tmp_path / "overnight.toml")
    for workflow, may in allowed.items():
        if may:
            assert registry.find(settings, "triage", workflow).name == "triage"
        else:
            with pytest.raises(NoRoute, match=f"workflow '{workflow}' may not call agent 'triage': add"):
                registry.find(settings, "triage", workflow)


def test_positions_do_not_depend_on_which_branch_is_faster() -> None:
    async def calls(found: list[str], waits: list[float]) -> None:
        for wait in waits:
            found.append(current().next())
            await asyncio.sleep(wait)

    async def run(chance: random.Random) -> list[list[str]]:
        root = Branch("", "seed", 0.0)
        root.enter()
        current().next()
        found: list[list[str]] = [[], [], []]
        await asyncio.gather(*(calls(each, [chance.random() / 500 for _ in range(3)]) for each in found))
        found.append([current().next()])
        return found

    runs = [asyncio.run(run(random.Random(seed))) for seed in range(5)]
    assert runs[0] == [["1.0", "1.1", "1.2"], ["2.0", "2.1", "2.2"], ["3.0", "3.1", "3.2"], ["4"]]
    assert all(each == runs[0] for each in runs)
    assert sorted(["10", "2.1", "2.0.3", "2.0.10"], key=order) == ["2.0.3", "2.0.10", "2.1", "10"]


def test_random_numbers_follow_from_job_and_branch() -> None:
    def numbers(prefix: str, seed: str) -> list[float]:
        return [Branch(prefix, seed, 0.0).random.random() for _ in range(2)]

    assert numbers("", "a") == numbers("", "a")
    assert len({*numbers("", "a"), *numbers("", "b"), *numbers("1.0.", "a")}) == 3


def test_a_digest_does_not_contain_memory_addresses() -> None:
    assert digest("call", "m", {"a": 1, "b": 2}) == digest("call", "m", {"b": 2, "a": 1})
    assert digest("call", "m", {"a": 1}) != digest("call", "m", {"a": 2})
    assert digest("step", "s", [object()]) == digest("step", "s", [object()])


def test_a_digest_of_values_that_orjson_refuses() -> None:
    seeds = {digest("call", "m", {"seed": 123456789012345678901 + number, "of": object()}) for number in (0, 0, 1)}
    assert len(seeds) == 2
    assert digest("step", "s", ["\ud800"]) != digest("step", "s", ["\ud801"])


@pytest.mark.parametrize("value", [None, 1 << 80, 0.1, "é\u2028", [1, {"a": []}], {"1": "x"}])
def test_json_values_are_read_back_equal(value: Any) -> None:
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({1, 2}, "the value is a set"),
        ({"a": [0, b""]}, "the value['a'][1] is a bytes"),
        ([float("nan")], "the value[0] is nan"),
        ({(1, 2): 3}, "has a key that is a tuple"),
        ("\ud800", "half of a surrogate pair"),
    ],
)
def test_a_value_that_json_cannot_hold_is_located(value: Any, words: str) -> None:
    with pytest.raises(Unwritable) as caught:
        encode(value)
    assert words in str(caught.value)


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(Unwritable, match="holds itself"):
        encode(value)


def test_an_exception_whose_str_fails_has_a_message() -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert error_text(OddError()) == "OddError: its message cannot be read"
    assert error_text(ValueError()) == "ValueError"
    assert len(error_text(ValueError("x" * 10_000))) < 3_000


def test_a_spending_cap_never_holds_more_than_its_limit() -> None:
    chance = random.Random(3)
    spending_cap = SpendingCap(1_000)
    spent = 0
    for number in range(500):
        call = str(chance.randrange(6))
        if call in spending_cap.held and chance.random() < 0.6:
            cost = chance.randrange(spending_cap.held[call] + 1)
            spending_cap.pay(call, cost)
            spent += cost
        else:
            try:
                spending_cap.hold(call, chance.randrange(60))
            except OverCap:
                assert spending_cap.spent + sum(spending_cap.held.values()) > 1_000 - 60
        assert spending_cap.spent == spent
        assert spending_cap.spent + sum(spending_cap.held.values()) <= 1_000, number


def test_replies_of_every_wire_format() -> None:
    tool = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"a": 1}'}}
    chat = Reply({"choices": [{"message": {"role": "assistant", "content": "hi", "tool_calls": [tool]}}]})
    claude = Reply(
        {
            "content": [
                {"type": "text", "text": "hi"},
                {"type": "tool_use", "id": "c1", "name": "find", "input": {"a": 1}},
            ]
        }
    )
    item = {"type": "function_call", "call_id": "c1", "name": "find", "arguments": '{"a": 1}'}
    response = Reply({"output": [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}, item]})
    for reply in (chat, claude, response):
        assert reply.text == "hi"
        assert [(call.id, call.name, call.arguments) for call in reply.tool_calls] == [("c1", "find", {"a": 1})]
    assert chat.message["tool_calls"] == [tool]
    assert Reply({"choices": [{"message": {"content": '{"a": [1]}'}}]}).json() == {"a": [1]}
    assert Reply({}).text == ""
    rows = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
    assert Embeddings({"data": rows}).vectors == [[1.0], [2.0]]
