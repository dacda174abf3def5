"""A RabbitMQ node of a test's own, on free ports and in a folder of its own, if Debian's package is installed."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

#: Debian's wrapper in /usr/sbin changes the user and forgets the environment; this is what it starts.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def missing() -> str | None:
    """Why there is no RabbitMQ to test with; None if there is."""
    if not SERVER.exists() or shutil.which("erl") is None:
        return "rabbitmq-server is not installed (apt-get install rabbitmq-server)"
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RabbitMQ:
    """A node that runs while the block does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self._epmd_port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = 127.0.0.1:{self.port}\nlog.console = true\nlog.file = false\n"
        )
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "conf"),
            "RABBITMQ_DIST_PORT": str(_free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self, seconds: float = 90.0) -> None:
        """Start the node and wait until it takes connections."""
        with (self.folder / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [str(SERVER)], env=self._environment, stdout=out, stderr=out, start_new_session=True
            )
        ends = time.monotonic() + seconds
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                    probe.sendall(b"AMQP\x00\x00\x09\x01")
                    if probe.recv(1):
                        return
            except OSError:
                pass
            said = (self.folder / "out").read_text(errors="replace")[-2000:]
            assert self._process.poll() is None, f"RabbitMQ ended:\n{said}"
            assert time.monotonic() < ends, f"RabbitMQ did not start:\n{said}"
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop the node; its messages stay on disk."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        # Erlang leaves its port mapper behind; this one serves only the test.
        subprocess.run(
            ["epmd", "-port", str(self._epmd_port), "-kill"], env=self._environment, capture_output=True, check=False
        )
