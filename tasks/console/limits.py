"""`overnight limits` and `overnight costs`."""

import time
from typing import Annotated, Literal

import typer

from limits.feedback import resume, set_circuit, unblock_account
from limits.snapshot import Snapshot
from tasks.batches.store import Store, open_store
from tasks.console import changing, limits_view, view
from tasks.console.exit_status import errors_reported, fail
from tasks.console.options import Config, Json
from tasks.console.session import configured
from tasks.console.view import print_json
from tasks.jobs import changed_settings, pauses
from tasks.monitoring import costs as ledger
from tasks.monitoring import flex_tiers
from tasks.monitoring import limits as now
from workers.config.settings import Settings
from workers.models.tiers import apart

#: Seconds between two readings of `--watch`.
REFRESH = 1.0


def limits(
    clear: Annotated[str | None, typer.Option(metavar="PROVIDER", help="Unblock a provider's accounts.")] = None,
    open_: Annotated[
        str | None, typer.Option("--open", metavar="PROVIDER/MODEL", help="Hold its circuit open: send nothing.")
    ] = None,
    close: Annotated[
        str | None,
        typer.Option(metavar="PROVIDER/MODEL", help="Hold its circuit closed, whatever fails."),
    ] = None,
    auto: Annotated[
        str | None, typer.Option(metavar="PROVIDER/MODEL", help="Let its circuit work on its own again.")
    ] = None,
    resume_: Annotated[
        str | None, typer.Option("--resume", metavar="PROVIDER/MODEL", help="End the pause after a 429.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every second, until Ctrl-C.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Show quotas, pauses, circuits, blocked accounts and budgets as of now, or change them by hand."""
    with errors_reported():
        settings = configured(config)
        store = open_store(settings)
        if clear is not None:
            _clear(settings, store, clear)
        if resume_ is not None:
            _resume(settings, store, resume_)
        by_hand: list[tuple[str | None, Literal["open", "closed", "auto"]]]
        by_hand = [(open_, "open"), (close, "closed"), (auto, "auto")]
        for target, state in by_hand:
            if target is not None:
                _hold(settings, store, target, state)
        if any(each is not None for each in (clear, open_, close, auto, resume_)):
            return
        paused = pauses.read(store.client, store.keys)
        if as_json:
            changed = settings.holding(changed_settings.read(store.client, store.keys))
            shown = [{"setting": each.name, "value": each.value, "file": each.file, "at": each.at} for each in changed]
            print_json({**now.shown(_read(settings, store)), "paused": paused, "changed": shown})
        elif watch:
            try:
                limits_view.watch(lambda: _read(settings, store), lambda: time.sleep(REFRESH))
            except KeyboardInterrupt:
                return
        else:
            limits_view.limits(_read(settings, store))
            changing.show(settings, store)
            for name in sorted(paused):
                view.say(f"{name.replace('/', ' ', 1)} is paused; to go on: {pauses.command(name)}")


def _read(settings: Settings, store: Store) -> Snapshot:
    settings = changed_settings.in_force(settings, store.client, store.keys)
    return flex_tiers.with_flex(settings, store, now.read(settings, store, time.time()))


def costs(
    workflow: Annotated[str | None, typer.Option("--workflow", "-w", help="Only this workflow.")] = None,
    since: Annotated[
        str, typer.Option(metavar="D", help='A day such as 2026-11-01, or how far back, such as "7d".')
    ] = "30d",
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Show what calls have cost, by workflow, model, provider and batch."""
    with errors_reported():
        settings = configured(config)
        try:
            begins = ledger.since(since, ledger.today())
        except ValueError as exc:
            fail(str(exc))
        store = open_store(settings)
        found = ledger.read(store.server, store.keys, begins, only=workflow)
        if as_json:
            print_json(found.shown())
        else:
            limits_view.spent(found, days=found.since != found.until)


def _clear(settings: Settings, store: Store, provider: str) -> None:
    if provider not in settings.providers:
        fail(f'no provider "{provider}" is configured; configured: {", ".join(settings.providers) or "none"}')
    every = [*now.targets(settings), *now.unlisted(settings, store, time.time(), store.live())]
    models = [model for name, model in every if name == provider]
    accounts = now.accounts_of(settings, provider)
    cleared = [
        account
        for account in [*accounts, *(f"{account}/{model}" for account in accounts for model in models)]
        if store.server.run(unblock_account(store.keys, account))
    ]
    if cleared:
        view.say(f"cleared: {', '.join(cleared)}; waiting jobs ask again within a minute")
    else:
        view.say(f"{provider} was not blocked")


def _resume(settings: Settings, store: Store, target: str) -> None:
    provider, model = _known(settings, target)
    accounts = now.accounts_of(settings, provider)
    buckets = [name for each in accounts for name in (f"{each}/{model}", each, apart(f"{each}/{model}"))]
    lifted = sum(store.server.run(resume(store.keys, bucket)) > 0 for bucket in buckets)
    if lifted:
        view.say(f"{target} is no longer paused; waiting jobs ask again within a minute")
    else:
        view.say(f"{target} was not paused")


def _known(settings: Settings, target: str) -> tuple[str, str]:
    """The provider and model of `target`. Ends the command if it is not a configured one."""
    provider, _, model = target.partition("/")
    known = [f"{name}/{listed}" for name, listed in now.targets(settings)]
    if provider not in settings.providers or not model:
        fail(f'"{target}" is not a configured PROVIDER/MODEL; configured: {", ".join(known) or "none"}')
    return provider, model


def _hold(settings: Settings, store: Store, target: str, state: Literal["open", "closed", "auto"]) -> None:
    _known(settings, target)
    store.server.run(set_circuit(store.keys, target, state))
    words = {
        "open": f"{target} is held open: nothing is sent there. Back to automatic: overnight limits --auto {target}",
        "closed": f"{target} is held closed: failures are ignored. Back to automatic: overnight limits --auto {target}",
        "auto": f"the circuit of {target} opens and closes on its own again",
    }
    view.say(words[state])
