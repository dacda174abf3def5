"""`overnight` in a folder of Python files whose names are those of Overnight's own modules."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulator import Simulator
from tests.support.site import Site, jobs

pytestmark = pytest.mark.long

#: A Celery project's file, two of Overnight's packages, and two modules that it imports.
NAMES = ("tasks", "workers", "limits", "orjson", "celery")


def test_run_imports_no_files_of_the_working_folder(tmp_path: Path) -> None:
    mark = tmp_path / "imported"
    with Simulator() as simulator, Site(tmp_path / "site", simulator) as site:
        for name in NAMES:
            text = f"open({str(mark)!r}, 'a').write({name!r})\nraise SystemExit(9)\n"
            (site.folder / f"{name}.py").write_text(text)
        command = [str(Path(sys.executable).with_name("overnight")), "run", str(site.input(jobs(5))), "-o", "out.jsonl"]
        done = subprocess.run(
            [*command, "--workers", "1"],
            cwd=site.folder,
            env=site.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert len((site.folder / "out.jsonl").read_text().splitlines()) == 5
    assert not mark.exists()
