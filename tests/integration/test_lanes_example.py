"""`make lanes`: what a newcomer sees is true, however busy the machine is."""

import re
import subprocess
import sys

import pytest

from tests.support.site import ROOT


@pytest.mark.long
@pytest.mark.timeout(240)
def test_the_example_saves_money_and_keeps_its_deadline() -> None:
    command = [sys.executable, "examples/lanes.py"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=True).stdout
    assert "its latest moment has come, cancelled" in shown
    counts = re.search(r"answered +60 +60: (\d+) by batch, (\d+) live", shown)
    assert counts is not None, shown
    assert int(counts[1]) + int(counts[2]) == 60
    saved = re.search(r"saved +(\d+)%", shown)
    assert saved is not None
    assert 30 <= int(saved[1]) <= 50
