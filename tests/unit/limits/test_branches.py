"""Every branch of the Lua is reached by the direct tests beside this one."""

import os

import pytest

from tests.unit.limits.branches import NAMES
from tests.unit.limits.conftest import MODULES, REACHED

DIRECT = {
    "test_blocked.py",
    "test_budgets.py",
    "test_candidates.py",
    "test_burst.py",
    "test_circuits.py",
    "test_keys.py",
    "test_late_calls.py",
    "test_leases.py",
    "test_levels.py",
    "test_pace.py",
    "test_pauses.py",
    "test_settling.py",
    "test_snapshot.py",
    "test_stated.py",
    "test_urgent.py",
    "test_waiting.py",
    "test_window.py",
}


def test_every_branch_is_reached(pytestconfig: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        pytest.skip("it needs the whole room's tests in one process: `make branches` runs them so")
    missing = DIRECT - pytestconfig.stash.get(MODULES, set())
    if missing:
        assert os.environ.get("REQUIRE_BRANCHES") != "1", f"{', '.join(sorted(missing))} did not run"
        pytest.skip(f"it needs the whole room's tests: {', '.join(sorted(missing))} did not run")
    reached = {NAMES[number] for number in pytestconfig.stash[REACHED]}
    unreached = sorted(set(NAMES.values()) - reached)
    assert not unreached, "\n".join(unreached)
