"""Settings that someone changes while workers run: what can be changed, and how long a change holds."""

import pytest

from workers.config import changes
from workers.config.changes import Change
from workers.config.problems import SettingsError

FILE = {
    "budget_usd": 100,
    "providers": {"acme": {"rpm": 60, "models": {"gpt-4.1": {"rpm": 10}}}},
    "workflows": {"nightly": {"weight": 2.0}},
}


@pytest.mark.parametrize(
    ("words", "path", "value"),
    [
        ("budget_usd=50", ("budget_usd",), 50),
        ("workflows.nightly.budget_usd = 12.5", ("workflows", "nightly", "budget_usd"), 12.5),
        ('providers.acme.models."gpt-4.1".rpm=500', ("providers", "acme", "models", "gpt-4.1", "rpm"), 500),
        ("providers.acme.concurrency=3", ("providers", "acme", "concurrency"), 3),
    ],
)
def test_a_setting_is_read_as_toml_writes_it(words: str, path: tuple[str, ...], value: object) -> None:
    assert changes.parse(words) == (path, value)
    assert changes.path_of(words.partition("=")[0]) == path


@pytest.mark.parametrize(
    "words",
    [
        "redis_url='redis://x'",
        "providers.acme.base_url='http://evil'",
        "providers.acme.api_key='env:X'",
        "workflows.nightly.rpm=1",
        "workflows={nightly={budget_usd=1}, other={budget_usd=2}}",
        "providers.acme.models.small=1",
        "budget_usd",
        "budget_usd=",
        "budget_usd=[1]",
        "budget_usd=1\nrpm=2",
        "",
        "\x00=1",
    ],
)
def test_what_cannot_be_changed_is_refused(words: str) -> None:
    with pytest.raises(SettingsError):
        changes.parse(words)


def test_a_change_holds_until_the_file_says_something_else() -> None:
    path = ("providers", "acme", "models", "gpt-4.1", "rpm")
    change = Change(path, 500, changes.in_file(FILE, path), 1.0)
    assert changes.applied(FILE, [change])["providers"]["acme"]["models"]["gpt-4.1"]["rpm"] == 500
    assert FILE["providers"]["acme"]["models"]["gpt-4.1"]["rpm"] == 10  # type: ignore[index]  # the file itself stays
    edited = {**FILE, "providers": {"acme": {"models": {"gpt-4.1": {"rpm": 20}}}}}
    assert changes.holding(edited, [change]) == []
    assert changes.holding({"budget_usd": 1}, [change]) == [], "its table is gone"


def test_a_setting_that_the_file_lacks_can_be_changed() -> None:
    change = Change(("workflows", "nightly", "budget_usd"), 5, None, 1.0)
    assert changes.applied(FILE, [change])["workflows"]["nightly"] == {"weight": 2.0, "budget_usd": 5}
    with pytest.raises(SettingsError, match=r"no table \[workflows.other\]"):
        changes.in_file(FILE, ("workflows", "other", "budget_usd"))


def test_changes_in_redis_that_nobody_of_ours_wrote_are_left_out() -> None:
    good = Change(("budget_usd",), 5, 100, 2.0)
    raw = {
        good.field: good.encode(),
        b"nonsense": b"{}",
        b'["redis_url"]': b'{"value": "redis://evil", "file": null, "at": 1}',
        b'["workflows", "nightly", "weight"]': b"{}",
        b"7": b"7",
    }
    assert changes.decode(raw) == [good]
    assert good.name == "budget_usd"
    assert Change(("providers", "acme", "models", "gpt-4.1", "rpm"), 1, None, 0.0).name == (
        'providers.acme.models."gpt-4.1".rpm'
    )
