"""The command line: `overnight`, with every command by its name."""

import typer

from tasks.console import (
    batches,
    changing,
    dead,
    init,
    jobs,
    limits,
    monitoring,
    pauses,
    run,
    schedules,
    server,
    services,
)

app = typer.Typer(
    name="overnight",
    help="Run batches of LLM jobs overnight: within every rate limit and a hard budget, without losing a job.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for command in (
    run.run,
    batches.submit,
    batches.estimate,
    batches.status,
    batches.wait,
    batches.results,
    batches.cancel,
    pauses.pause,
    pauses.resume,
    batches.retry,
    batches.clean,
):
    app.command()(command)
for service in (services.worker, schedules.beat, monitoring.flower):
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(service)
app.command()(init.init)
app.command()(jobs.jobs)
app.command()(schedules.schedules)
app.command()(server.serve)
app.command()(monitoring.metrics)
app.command()(services.check)
app.add_typer(dead.app, name="dead")
app.command()(limits.costs)
app.command()(limits.limits)
app.command(name="set")(changing.set_)


def main() -> None:
    """Run the command line."""
    app()
