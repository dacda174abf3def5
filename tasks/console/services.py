"""`overnight worker` and `overnight check`."""

import asyncio
import os
from typing import Annotated

import typer

from tasks.console import view
from tasks.console.exit_status import SUCCEEDED, WRONG, errors_reported
from tasks.console.options import Config
from tasks.console.session import configured

#: The variable in which a worker process finds the port of its metrics (tasks/monitoring/setup.py).
METRICS_PORT = "OVERNIGHT_METRICS_PORT"


def worker(
    context: typer.Context,
    number: Annotated[int, typer.Option("-n", min=1, max=64, help="Worker processes.")] = 1,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="The most calls in flight in each process.")
    ] = 100,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            envvar=METRICS_PORT,
            help="Serve each process's metrics at this port, or the next free one.",
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Run workers until stopped. Further options go to Celery's worker."""
    from tasks.console import local_workers  # noqa: PLC0415 - only this command needs it

    with errors_reported():
        configured(config, keys=True)
        if metrics_port is not None:
            os.environ[METRICS_PORT] = str(metrics_port)
        raise typer.Exit(local_workers.run_workers(number, concurrency, context.args))


def check(config: Config = None) -> None:
    """Check the configuration, the servers and the providers' keys. Sends no job."""
    from tasks.console.check import check as run_check  # noqa: PLC0415 - only this command needs it

    with errors_reported():
        settings = configured(config)
        findings = asyncio.run(run_check(settings))
        view.findings(findings)
    raise typer.Exit(WRONG if any(finding.state == "error" for finding in findings) else SUCCEEDED)
