"""`python -m tests.simulator --config JSON`: prints its port, then serves until terminated or orphaned."""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path

from tests.simulator.config import Config, configure
from tests.simulator.server import Server


async def serve(config: Config, port: int, host: str) -> None:
    listening = await Server(config).start(port, host)
    print(listening.sockets[0].getsockname()[1], flush=True)  # noqa: T201  # the first line is its interface
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop.set)
    if not sys.stdin.isatty():
        # A parent that dies closes the pipe: nothing is left behind, even by a test that was killed.
        with contextlib.suppress(ValueError, OSError, PermissionError):
            loop.add_reader(sys.stdin.fileno(), stop.set)
    await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--config", default="{}", help="settings as JSON, or @FILE")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    arguments = parser.parse_args()
    text = arguments.config
    if text.startswith("@"):
        text = Path(text[1:]).read_text(encoding="utf-8")
    config = Config()
    configure(config, json.loads(text))
    asyncio.run(serve(config, arguments.port, arguments.host))


if __name__ == "__main__":
    main()
