"""NO_SKIPS=1 turns a skip into a failure (tests/conftest.py)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: It needs the tests beside it, so alone it is skipped.
SKIPPED = "tests/unit/limits/test_branches.py"


def test_a_skipped_test_fails_if_skips_are_forbidden() -> None:
    environment = {name: found for name, found in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:celery", "-p", "no:cacheprovider", SKIPPED],
        cwd=ROOT,
        env={**environment, "NO_SKIPS": "1", "REQUIRE_BRANCHES": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert "1 failed" in done.stdout
    assert "it needs the whole room's tests" in done.stdout
