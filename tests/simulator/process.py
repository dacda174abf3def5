"""The simulator as a process of its own, under a context manager."""

import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_ROOT = Path(__file__).resolve().parents[2]


class Simulator:
    """Starts with the settings of `config.Config`, given as a dict or by name; stops with the block."""

    def __init__(self, config: dict[str, Any] | None = None, *, port: int = 0, **settings: Any) -> None:
        self._settings = {**(config or {}), **settings}
        self._port = port
        self._process: subprocess.Popen[str] | None = None
        self.base_url = ""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.simulator", "--config", json.dumps(self._settings)]
        self._process = subprocess.Popen(
            [*command, "--port", str(self._port)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line.isdigit():
            self.__exit__(None, None, None)
            raise RuntimeError("the simulator did not start; its words are on standard error")
        self._port = int(line)
        self.base_url = f"http://127.0.0.1:{line}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    @property
    def port(self) -> int:
        """Kept when the same object stops and starts again, as a provider does that is gone for a while."""
        return self._port

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def journal(self) -> list[dict[str, Any]]:
        """Every request so far, in order of arrival; the fields are those of `journal.Entry`."""
        return [json.loads(line) for line in self._ask("journal").splitlines()]

    def batches(self) -> list[dict[str, Any]]:
        """Every provider batch that was created, as OpenAI shows it, with its number of `lines` and its `first` job."""
        found: list[dict[str, Any]] = json.loads(self._ask("batches"))
        return found

    def stats(self) -> dict[str, Any]:
        """The journal in figures, the requests in flight, and the simulator's own CPU seconds."""
        figures: dict[str, Any] = json.loads(self._ask("stats"))
        return figures

    def configure(self, **changes: Any) -> None:
        """Change settings while it runs. New `models` start with full quotas, new `failures` begin now."""
        self._ask("configure", json.dumps(changes).encode())

    def clear(self) -> None:
        """Empty the journal."""
        self._ask("clear", b"{}")

    def _ask(self, action: str, content: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"{self.base_url}/_admin/{action}", data=content)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                read: bytes = answer.read()
                return read
        except urllib.error.HTTPError as error:
            words = error.read().decode()
            error.close()
            raise ValueError(words) from None
