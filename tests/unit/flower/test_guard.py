"""Flower starts only with a password or a login, or on this machine only."""

from types import SimpleNamespace
from typing import Any

import pytest

from tasks.monitoring.flower.guard import Open, check, is_expected_host


def options(**given: Any) -> SimpleNamespace:
    return SimpleNamespace(
        **{"basic_auth": [], "auth": "", "auth_provider": None, "address": "", "unix_socket": "", **given}
    )


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"address": "0.0.0.0"},
        {"address": "10.1.2.3"},
        {"address": "example.com"},
        {"basic_auth": [""]},
        {"basic_auth": ["operator"]},
        {"basic_auth": ["operator:"]},
        {"basic_auth": [":secret"]},
        {"basic_auth": ["operator:secret", "other:"]},
        {"basic_auth": ["operator:pässword"]},
        {"basic_auth": ["operator:"], "address": "127.0.0.1"},
        {"auth": ".*@example.com"},
    ],
)
def test_flower_without_protection_does_not_start(given: dict[str, Any]) -> None:
    with pytest.raises(Open):
        check(options(**given))


@pytest.mark.parametrize(
    "given",
    [
        {"basic_auth": ["operator:secret"]},
        {"basic_auth": ["operator:se:cret", "other:word"]},
        {"auth": ".*@example.com", "auth_provider": "flower.views.auth.GithubLoginHandler"},
        {"address": "127.0.0.1"},
        {"address": "::1"},
        {"address": "localhost"},
        {"unix_socket": "/run/flower.sock"},
    ],
)
def test_flower_with_protection_starts(given: dict[str, Any]) -> None:
    check(options(**given))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "[::1]", "::1"])
def test_names_of_this_machine_are_answered(host: str) -> None:
    assert is_expected_host(options(address="127.0.0.1"), host)


@pytest.mark.parametrize("host", ["rebound.example.com", "10.0.0.1", "", "127.0.0.1.example.com", "localhost."])
def test_other_names_are_refused_without_a_password(host: str) -> None:
    assert not is_expected_host(options(address="127.0.0.1"), host)
    assert is_expected_host(options(basic_auth=["operator:secret"]), host)
