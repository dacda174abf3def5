"""`make bench-scale` at a small size: workers without HTTP run whole batches, and each step's cost is reported."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEPS = ["feed", "claim", "begin", "admit", "finish", "acknowledge", "events", "collect", "all"]


@pytest.mark.long
def test_workers_without_http_end_every_job_of_a_batch(tmp_path: Path) -> None:
    report = tmp_path / "scale.md"
    command = [sys.executable, "bench/scale.py", "--lines", "400", "--workers", "1", "3", "--drivers", "2"]
    done = subprocess.run(
        [*command, "--report", str(report)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr  # it checks that every line has ended once
    rows = re.findall(r"^\| (\w+) \| ([\d,]+)", report.read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == ["1", "3", *STEPS]
    assert all(int(figure.replace(",", "")) > 0 for _, figure in rows), rows
