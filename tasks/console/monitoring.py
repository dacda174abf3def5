"""`overnight flower` and `overnight metrics`."""

import threading
from typing import Annotated

import typer

from tasks.batches.store import open_store
from tasks.console import view
from tasks.console.exit_status import SUCCEEDED, errors_reported, fail
from tasks.console.options import Config
from tasks.console.session import configured


def flower(
    context: typer.Context,
    token: Annotated[
        str,
        typer.Option(
            envvar="OVERNIGHT_METRICS_TOKEN", show_envvar=True, help="A token that lets Prometheus read /metrics."
        ),
    ] = "",
    config: Config = None,
) -> None:
    """Run Flower, with pages of workflows, batches and limits. Further options go to Flower."""
    from tasks.monitoring.flower import guard, serve  # noqa: PLC0415 - only this command needs it

    with errors_reported():
        settings = configured(config)
        try:
            serve.run(settings, context.args, token)
        except guard.Open as exc:
            fail(str(exc))


def metrics(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port; 0 for any free one.")] = 9464,
    address: Annotated[str, typer.Option(help="The interface. Metrics ask for no password.")] = "127.0.0.1",
    config: Config = None,
) -> None:
    """Serve metrics to Prometheus, until stopped."""
    from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415 - only this command needs it

    from tasks.monitoring.metrics import Exporter  # noqa: PLC0415

    with errors_reported():
        settings = configured(config)
        registry = CollectorRegistry()
        registry.register(Exporter(open_store(settings), settings))
        try:
            server, thread = start_http_server(port, address, registry)
        except OSError as exc:
            fail(f"cannot serve metrics at {address}:{port}: {exc.strerror or exc}")
        view.say(f"metrics at http://{address}:{server.server_port}/metrics")
        try:
            while thread.is_alive():
                threading.Event().wait(3600)
        except KeyboardInterrupt:
            raise typer.Exit(SUCCEEDED) from None
