"""`overnight serve`."""

from typing import Annotated

import typer

from tasks.console import view
from tasks.console.exit_status import errors_reported, fail
from tasks.console.options import Config
from tasks.console.session import configured


def serve(
    host: Annotated[str, typer.Option(help="The interface; any but 127.0.0.1 needs \\[clients].")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port; 0 for any free one.")] = 8080,
    config: Config = None,
) -> None:
    """Serve OpenAI's API, until stopped: files, batches and live calls."""
    with errors_reported():
        settings = configured(config, keys=True)
        try:
            from tasks.server.serve import bind, run  # noqa: PLC0415 - only this command needs it
        except ModuleNotFoundError as exc:
            if (exc.name or "").partition(".")[0] in {"limits", "workers", "tasks"}:
                raise
            fail(f"{exc.name} is not installed: pip install 'overnight[server]'")
        try:
            listening = bind(settings, host, port)
        except OSError as exc:
            fail(f"cannot serve at {host}:{port}: {exc.strerror or exc}")
        at = listening.getsockname()
        view.say(f"serving at http://{f'[{at[0]}]' if ':' in at[0] else at[0]}:{at[1]}/v1")
        run(settings, listening)
