"""Commands of `overnight`, each in a process of its own, as `python -m tasks` runs them.

A command's imports take most of its CPU. So its process is forked from one that has made them, once for each process of
pytest. `Site.popen` starts a command from nothing, as a shell does.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tasks.console.cli", "tests.support.commands"])


def run(
    arguments: tuple[str, ...], folder: Path, environment: Mapping[str, str], seconds: float
) -> "subprocess.CompletedProcess[str]":
    """A command, run to its end. Raises subprocess.TimeoutExpired, with what it has printed, after `seconds`."""
    with tempfile.TemporaryDirectory() as words:
        out, err = Path(words, "out"), Path(words, "err")
        process = _processes.Process(target=_command, args=(arguments, folder, dict(environment), out, err))
        process.start()
        process.join(seconds)
        status = process.exitcode
        if status is None:
            process.kill()
            process.join()
        process.close()
        printed = [path.read_text() if path.exists() else "" for path in (out, err)]
    if status is None:
        raise subprocess.TimeoutExpired(arguments, seconds, *printed)
    return subprocess.CompletedProcess(arguments, status, *printed)


def _command(arguments: tuple[str, ...], folder: Path, environment: dict[str, str], out: Path, err: Path) -> None:
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = [str(folder), *environment["PYTHONPATH"].split(os.pathsep)]
    sys.argv[1:] = arguments
    try:
        runpy.run_module("tasks", run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # a forked process skips them
