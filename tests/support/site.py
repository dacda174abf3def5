"""A site: one folder with its own overnight.toml, server and workers, as a user has it. Everything real.

    with Simulator() as simulator, Site(tmp_path, simulator, model="rpm = 300") as site:
        site.start_workers(2)
        batch = site.submit(jobs(400), workflow="nightly")
        assert site.wait(batch)["request_counts"]["completed"] == 400
        lines, errors = site.results(batch)

Processes are started with the interpreter that runs the tests and are ended by their id when the block ends.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from limits.keys import Keys
from tasks.batches.batch import ENDED
from tests.simulator import Simulator
from tests.support import commands
from tests.support.valkey import free_port
from tests.support.worker_process import Worker, end_with_tests
from workers.embedded import EmbeddedServer, address

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-test-aBcDeFgHiJkLmNoPqRsTuVwXyZ"

Line = dict[str, Any]


def job(number: int, *, model: str = "small", text: str = "", **body: Any) -> Line:
    """One chat job; the simulator's answers are a function of the text."""
    content = text or f"Say something about the number {number}."
    return {
        "custom_id": f"job-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 50, **body},
    }


def jobs(count: int, **more: Any) -> list[Line]:
    """`count` different chat jobs."""
    return [job(number, **more) for number in range(1, count + 1)]


def lanes_of(lines: list[Line]) -> dict[str, int]:
    """How many result lines each lane brought."""
    found: dict[str, int] = {}
    for line in lines:
        lane = line["overnight"]["lane"]
        found[lane] = found.get(lane, 0) + 1
    return found


def wait_for(condition: Callable[[], Any], seconds: float = 30.0, every: float = 0.05, what: str = "") -> Any:
    """What `condition` returns as soon as that is true; AssertionError if it takes longer than `seconds`."""
    ends = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        assert time.monotonic() < ends, f"{what or condition} did not come true within {seconds:g} s"
        time.sleep(every)


class Site:
    """One provider, `acme`, at the simulator, with a model `small`.

    TOML lines: `more` for the beginning of the file, `provider` and `model` for their tables, `tables` for the end;
    or `toml`, the whole file.
    """

    def __init__(
        self,
        folder: Path,
        simulator: Simulator | None = None,
        *,
        model: str = "",
        provider: str = "",
        more: str = "",
        tables: str = "",
        toml: str | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "overnight.toml"
        if toml is None:
            assert simulator is not None
            toml = (
                f'{more}\n[providers.acme]\napi = "openai"\nbase_url = "{simulator.base_url}"\n'
                f'api_key = "env:ACME_KEY"\n{provider}\n[providers.acme.models.small]\n{model}\n{tables}\n'
            )
        self.file.write_text(toml)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OVERNIGHT_")},
            "OVERNIGHT_CONFIG": str(self.file),
            "ACME_KEY": KEY,
            "PYTHONPATH": str(ROOT),
            **(environment or {}),
        }
        self.workers: list[Worker] = []
        self._files = 0
        self._server: EmbeddedServer | None = None

    def __enter__(self) -> Self:
        if "redis_url" not in self.file.read_text():
            # Held by the test too, so that the server does not start and stop with each command.
            self._server = EmbeddedServer(self.folder / ".overnight")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGCONT)
                worker.process.terminate()
        for worker in self.workers:
            worker.stop(10.0)
        if self._server is not None:
            self._server.leave()

    # Commands

    def popen(self, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        """A command of `overnight` that goes on beside the test, started as a shell starts it."""
        command = [sys.executable, "-m", "tasks", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *arguments: str, status: int | None = 0, seconds: float = 60.0) -> "subprocess.CompletedProcess[str]":
        """A command of `overnight`, run to its end; `status` is the exit status that it must have."""
        try:
            done = commands.run(arguments, self.folder, self.environment, seconds)
        except subprocess.TimeoutExpired as late:
            words = f"overnight {' '.join(arguments)} takes more than {seconds:g} s"
            raise AssertionError(f"{words}:\n{late.stdout!s}{late.stderr!s}") from None
        if status is not None:
            assert done.returncode == status, (
                f"overnight {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def python(self, program: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
        """A Python program of a user's, with the site's configuration."""
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, f"{done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def input(self, lines: Iterable[Line]) -> Path:
        """A file of these lines."""
        self._files += 1
        path = self.folder / f"input-{self._files}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    def submit(self, lines: Iterable[Line], *options: str, workflow: str = "nightly") -> str:
        """Submit lines; the batch's id."""
        return self.run("submit", str(self.input(lines)), "-w", workflow, *options).stdout.strip()

    def status(self, batch: str) -> dict[str, Any]:
        """`overnight status BATCH --json`."""
        found: dict[str, Any] = json.loads(self.run("status", batch, "--json").stdout)
        return found

    def wait(self, batch: str, seconds: float = 60.0) -> dict[str, Any]:
        """Wait until the batch has ended; its status then."""
        if self._server is None:
            self.run("wait", batch, status=None, seconds=seconds)
        else:
            wait_for(lambda: self._status(batch) in ENDED, seconds, every=0.1, what=f"the end of {batch}")
        return self.status(batch)

    def _status(self, batch: str) -> str:
        """Its status in Redis, which costs a hundredth of a command's start; empty while the server is away."""
        try:
            with self.client() as client:
                return (client.hget(self.keys.batch(batch), "status") or b"").decode()  # type: ignore[union-attr]
        except (redis.ConnectionError, FileNotFoundError):
            return ""

    def results(self, batch: str) -> tuple[list[Line], list[Line]]:
        """The lines of its output and of its error file."""
        output, errors = self.folder / f"{batch}.out.jsonl", self.folder / f"{batch}.err.jsonl"
        self.run("results", batch, "-o", str(output), "--errors", str(errors), status=None)
        return read_lines(output), read_lines(errors) if errors.exists() else []

    # Workers

    def start_worker(
        self,
        *options: str,
        concurrency: int = 100,
        ready: bool = True,
        environment: dict[str, str] | None = None,
        program: str = "celery",
    ) -> Worker:
        """`celery -A workers worker`, in a process group of its own; `workers.celery_worker` is `overnight`'s way."""
        number = len(self.workers) + 1
        worker = self._start(
            f"worker-{number}.log",
            *(program, "-A", "workers", "worker", "-n", f"w{number}-{os.getpid()}@%h"),
            *("--concurrency", str(concurrency), "--without-mingle", "--without-gossip", "-l", "INFO", *options),
            environment=environment,
        )
        if ready:
            wait_for(worker.ready, 30.0, what="worker")
        return worker

    def start_beat(self) -> Worker:
        """`overnight beat`, in a process group of its own."""
        beat = self._start(f"beat-{len(self.workers) + 1}.log", "tasks", "beat", "-l", "INFO")
        wait_for(lambda: "beat: Starting" in beat.said(), 30.0, what="beat")
        return beat

    def _start(self, log: str, *command: str, environment: dict[str, str] | None = None) -> Worker:
        path = self.folder / log
        with path.open("wb") as words:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.folder,
                env={**self.environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
                preexec_fn=end_with_tests,  # noqa: PLW1509 - one system call, and no Python lock
            )
        worker = Worker(process, path)
        self.workers.append(worker)
        return worker

    def start_workers(self, count: int, *options: str, **more: Any) -> list[Worker]:
        started = [self.start_worker(*options, ready=False, **more) for _ in range(count)]
        for worker in started:
            wait_for(worker.ready, 30.0, what="worker")
        return started

    # The server

    def redis_url(self) -> str:
        """The embedded server for clients of other projects: a port that it has until it is started again."""
        with self.client() as client:
            found: Any = client.config_get("port")
            port = int(found["port"])
            if not port:
                port = free_port()
                client.config_set("port", port)
        return f"redis://127.0.0.1:{port}/0"

    def redis_pid(self) -> int:
        return int(json.loads((self.folder / ".overnight" / "redis" / "state.json").read_bytes())["pid"])

    def client(self) -> "redis.Redis":
        """A client of the embedded server; something must be using it."""
        return redis.Redis.from_url(address(self.folder / ".overnight" / "redis"))

    @property
    def keys(self) -> Keys:
        return Keys("overnight")


def read_lines(path: Path) -> list[Line]:
    """The JSON lines of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
