"""The services of docker-compose.yml, and the simulator as their provider, as one project of a name of its own."""

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.support.site import KEY, Line, wait_for

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "overnight:latest"
FLOWER_PASSWORD = "smoke-flower-password"
CLIENT_KEY = "smoke-client-key"


def docker(*arguments: str, env: dict[str, str] | None = None, seconds: float = 120.0, text: str | None = None) -> str:
    """A docker command's stdout; AssertionError with its output if it fails."""
    done = subprocess.run(
        ["docker", *arguments],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


class Stack:
    """One project of compose. `folder` is what its containers see as /inputs."""

    def __init__(self, folder: Path) -> None:
        self.project = f"overnight-smoke-{uuid4().hex[:8]}"
        self.folder = folder
        self.environment = {
            "REDIS_PASSWORD": uuid4().hex,
            "FLOWER_PASSWORD": FLOWER_PASSWORD,
            "FLOWER_ADDRESS": "127.0.0.1:0",
            "OPENAI_API_KEY": KEY,
            "OVERNIGHT_CLIENT_KEY": CLIENT_KEY,
            "API_ADDRESS": "127.0.0.1:0",
            "OVERNIGHT_CONFIG_FILE": "./tests/smoke/overnight.toml",
            "OVERNIGHT_INPUTS": str(folder),
            "WORKER_CONCURRENCY": "20",
        }

    def compose(self, *arguments: str, seconds: float = 300.0, text: str | None = None) -> str:
        files = ("-f", "docker-compose.yml", "-f", "tests/smoke/compose.yml", "--project-directory", ".")
        return docker(
            "compose", "-p", self.project, *files, *arguments, env=self.environment, seconds=seconds, text=text
        )

    def up(self, *options: str) -> None:
        """Everything up and healthy; AssertionError with the services' logs if not."""
        try:
            self.compose("up", "--wait", *options, seconds=900)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()[-8000:]}") from None

    def down(self) -> None:
        self.compose("down", "--volumes", "--timeout", "3", "--remove-orphans")

    def logs(self, *services: str) -> str:
        return self.compose("logs", "--no-color", *services)

    def containers(self, service: str) -> list[str]:
        """The ids of a service's running containers."""
        return self.compose("ps", "--quiet", service).split()

    def address(self, service: str, port: int, index: int = 1) -> str:
        """The address of a service's container, counted from 1."""
        return "http://" + self.compose("port", "--index", str(index), service, str(port)).strip()

    def input(self, name: str, lines: Iterable[Line]) -> str:
        """A file of these lines; its path in the containers."""
        path = self.folder / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        path.chmod(0o644)
        return f"/inputs/{name}"

    def overnight(self, *arguments: str, seconds: float = 300.0) -> str:
        """A command of `overnight` in a container of its own, as the documentation has it; its stdout."""
        return self.compose("run", "--rm", "-T", "worker", "overnight", *arguments, seconds=seconds)

    def status(self, batch: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.compose("exec", "-T", "beat", "overnight", "status", batch, "--json"))
        return found

    def wait_until_done(self, batch: str, share: float, seconds: float = 60.0) -> dict[str, Any]:
        """The batch's status as soon as that share of its jobs has ended."""

        def far_enough() -> dict[str, Any] | None:
            status = self.status(batch)
            counts = status["request_counts"]
            return status if counts["completed"] + counts["failed"] >= share * counts["total"] else None

        found: dict[str, Any] = wait_for(far_enough, seconds, 0.2, what=f"{share:.0%} of {batch}")
        return found

    def results(self, batch: str) -> list[Line]:
        return [json.loads(line) for line in self.overnight("results", batch, "-o", "-").splitlines()]

    def redis(self, *command: str) -> str:
        words = 'REDISCLI_AUTH="$REDIS_PASSWORD" exec redis-cli --user overnight "$@"'
        return self.compose("exec", "-T", "redis", "sh", "-c", words, "sh", *command).strip()

    # The provider

    def provider(self, action: str, changes: dict[str, Any] | None = None) -> bytes:
        content = None if changes is None else json.dumps(changes).encode()
        request = urllib.request.Request(f"{self.address('provider', 8080)}/_admin/{action}", data=content)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            read: bytes = answer.read()
            return read

    def journal(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.provider("journal").splitlines()]
