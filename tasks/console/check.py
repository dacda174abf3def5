"""What `overnight check` looks at: what is configured, what is reachable, and what is missing.

It sends no job and costs nothing: it asks each provider for its list of models, which also tests the key.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import redis

from limits.client.connection import open_client
from limits.client.replies import as_limits_error, refuses_for_now
from limits.client.server_check import check_server
from limits.errors import LimitsError
from limits.keys import Keys
from tasks.agents import registry
from tasks.answers import own
from tasks.jobs.storage import StorageError, probe
from tasks.monitoring.flower.guard import is_loopback
from workers.config.credentials import without_password
from workers.config.model_settings import FILE_NAME
from workers.config.settings import ProviderSettings, Settings, SettingsError
from workers.embedded import ServerError, server_url
from workers.models.prices import configured
from workers.providers import connect
from workers.providers.batch_apis import batch_api
from workers.providers.errors import AccountBlocked, ProviderError

#: Seconds that a server may take to accept a connection and to answer.
PATIENCE = 5.0

#: Bytes free on the storage's disk below which a large batch may not fit.
ROOM = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked: its state in words, and how to fix it if something is wrong."""

    state: Literal["ok", "warn", "error"]
    subject: str
    words: str
    fix: str = ""


async def check(settings: Settings) -> list[Finding]:
    """Check everything that a batch depends on. Returns the findings in the order of the configuration."""
    found = [_file(settings), await asyncio.to_thread(_redis, settings)]
    if settings.broker_url is not None:
        found.append(await asyncio.to_thread(_broker, settings.broker_url, settings))
    found.append(await asyncio.to_thread(_storage, settings))
    if settings.agents or any(workflow.agents for workflow in settings.workflows.values()):
        found.append(_agents(settings))
    if any(workflow.check for workflow in settings.workflows.values()):
        found.append(_checks(settings))
    for answers in await asyncio.gather(*(_provider(name, each) for name, each in settings.providers.items())):
        found.extend(answers)
    if any("batch" in workflow.lanes for workflow in settings.workflows.values()):
        for name in settings.providers:
            found.extend(await asyncio.to_thread(_batch_lane, name, settings))
    found.extend(_names(settings))
    found.append(_workflows(settings))
    return found


def _file(settings: Settings) -> Finding:
    if settings.file is None:
        words = f"there is no {FILE_NAME} here, so the defaults apply and no model can be called"
        return Finding("error", "configuration", words, "Write one: `overnight init`.")
    if not settings.providers:
        return Finding("error", "configuration", f"{settings.file} has no provider", "Add a [providers.NAME] table.")
    return Finding("ok", "configuration", str(settings.file))


def _redis(settings: Settings) -> Finding:
    embedded = settings.redis_url is None
    shown = f"embedded, in {settings.data_dir}" if embedded else without_password(settings.redis_url or "")
    try:
        return _server("redis", server_url(settings), shown, settings)
    except ServerError as exc:
        return Finding("error", "redis", str(exc))


def _server(subject: str, url: str, shown: str, settings: Settings) -> Finding:
    """Check a Redis server, which has the state, the messages or both."""
    try:
        with open_client(url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE) as client:
            check_server(client)
            information = client.info("server")
            client.set(Keys(settings.namespace).probe, "", xx=True)
    except LimitsError as exc:
        return Finding("error", f"{subject} ({shown})", str(exc))
    except redis.RedisError as exc:
        if refuses_for_now(exc):
            return Finding("error", f"{subject} ({shown})", str(as_limits_error(exc, "SET")))
        return Finding(
            "error", f"{subject} ({shown})", f"{exc}", "Is it running, and are host, user and password right?"
        )
    name = "Valkey" if information.get("server_name") == "valkey" else "Redis"
    version = information.get("valkey_version") or information.get("redis_version")
    return Finding("ok", subject, f"{name} {version}, {shown}")


def _broker(url: str, settings: Settings) -> Finding:
    from kombu.connection import Connection  # noqa: PLC0415 - only needed if broker_url is set

    shown = without_password(url)
    if url.startswith("redis"):
        return _server("broker", url, shown, settings)
    try:
        with Connection(url, connect_timeout=PATIENCE) as connection:
            connection.ensure_connection(max_retries=1, timeout=PATIENCE)
    except Exception as exc:  # noqa: BLE001 - each transport has errors of its own
        fix = "Is it running, and are host, user and password right?"
        return Finding("error", f"broker ({shown})", f"cannot be reached: {type(exc).__name__}", fix)
    return Finding("ok", "broker", shown)


def _storage(settings: Settings) -> Finding:
    try:
        probe(settings.storage)
    except StorageError as exc:
        return Finding("error", "storage", str(exc))
    if settings.storage.startswith("file://"):
        free = shutil.disk_usage(settings.storage.removeprefix("file://")).free
        if free < ROOM:
            return Finding("warn", "storage", f"{settings.storage}: {free >> 20:,} MiB are free", "Make room.")
    return Finding("ok", "storage", settings.storage)


def _agents(settings: Settings) -> Finding:
    try:
        names = sorted(registry.load(settings))
    except SettingsError as exc:
        return Finding("error", "agents", str(exc))
    listed = {name for workflow in settings.workflows.values() for name in workflow.agents or ()}
    if missing := sorted(listed.difference(names)):
        fix = "Correct `agents` in the workflows' tables, or add the module that contains it."
        return Finding("error", "agents", f"no agent is named {', '.join(missing)}", fix)
    if not names:
        fix = "Decorate a coroutine with @agent (from tasks import agent)."
        return Finding("warn", "agents", f"{', '.join(settings.agents)}: these modules contain no agent", fix)
    return Finding("ok", "agents", ", ".join(names))


def _checks(settings: Settings) -> Finding:
    try:
        own.load(settings)
    except SettingsError as exc:
        return Finding("error", "checks", str(exc))
    return Finding(
        "ok", "checks", ", ".join(sorted({each.check for each in settings.workflows.values() if each.check}))
    )


async def _provider(name: str, settings: ProviderSettings) -> list[Finding]:
    subject = f"provider {name}"
    try:
        base_url, keys = settings.base_url, settings.keys() or [""]
    except SettingsError as exc:
        return [Finding("error", subject, str(exc), "Set it where Overnight runs, then check again.")]
    provider = connect(name, settings.api, base_url, PATIENCE, api_version=settings.api_version)
    found = _plain_http(subject, base_url) if settings.api_key else []
    try:
        for number, key in enumerate(keys, 1):
            each = f"{subject}, key {number}" if len(keys) > 1 else subject
            found.append(await _ping(each, provider.ping(key)))
    finally:
        await provider.close()
    return found


def _batch_lane(name: str, settings: Settings) -> list[Finding]:
    """Whether each key may use the provider's Batch API. Creates nothing."""
    provider = settings.providers[name]
    found = []
    for number in range(max(1, provider.key_count)):
        subject = f"{name}, key {number + 1}, batch lane" if provider.key_count > 1 else f"{name}, batch lane"
        try:
            api = batch_api(name, provider)
            if api is None:
                return [Finding("warn", subject, "it has no Batch API that is known here: its jobs are called live")]
            with closing(api):
                api.check(provider.key(number))
        except SettingsError:
            continue  # reported already
        except ProviderError as exc:
            fix = "Its jobs are called live. Give the key the right, or leave batch out of the lanes."
            found.append(Finding("warn", subject, f"{exc}: {exc.message}"[:200], fix))
        else:
            found.append(Finding("ok", subject, "the key may use the Batch API"))
    return found


def _plain_http(subject: str, base_url: str) -> list[Finding]:
    """Warn if the key and the prompts leave this machine unencrypted."""
    address = urlsplit(base_url)
    if address.scheme != "http" or is_loopback(address.hostname or ""):
        return []
    words = f"the key and all prompts go to {address.hostname} unencrypted"
    return [Finding("warn", subject, words, "Write https:// in base_url, if the server supports it.")]


async def _ping(subject: str, answer: Awaitable[str]) -> Finding:
    try:
        return Finding("ok", subject, await answer)
    except AccountBlocked as exc:
        return Finding("error", subject, f"refuses the key ({exc})", exc.advice)
    except ProviderError as exc:
        if exc.status is None:
            return Finding("error", subject, exc.message, "Is base_url right, and may this machine reach it?")
        return Finding("warn", subject, f"answers, but not with a list of models ({exc})")


def _names(settings: Settings) -> list[Finding]:
    """Find budgets without prices and models without limits: allowed, but seldom intended."""
    found = []
    budgeted = settings.budget_usd is not None or any(
        each.budget_usd is not None for each in settings.workflows.values()
    )
    for name, provider in settings.providers.items():
        for model, limits in provider.models.items():
            subject = f"model {name}/{model}"
            if not limits.quota().limits and limits.concurrency is None and provider.quota() is None:
                words = "has no limits: only the provider's 429s and headers slow it down"
                found.append(Finding("warn", subject, words, "Add your account's rpm and tpm to its table."))
            else:
                words = _limits(limits.quota().limits, limits.concurrency)
                if budgeted and configured(limits) is None:
                    words += "; submit looks its price up in the price table"
                found.append(Finding("ok", subject, words))
    return found


def _workflows(settings: Settings) -> Finding:
    """Say what happens to a workflow name that is not configured, such as a mistyped one."""
    if not settings.any_workflow:
        known = ", ".join(sorted(settings.workflows)[:8])
        return Finding("ok", "workflows", f"only configured ones run: {known or 'none'}")
    budgets = [name for name, each in settings.workflows.items() if each.budget_usd is not None]
    if budgets and settings.budget_usd is None:
        words = f"any name runs, but only {', '.join(sorted(budgets)[:8])} has a budget: a mistyped name has none"
        return Finding("warn", "workflows", words, "Set a global budget_usd, or remove unconfigured_workflows.")
    return Finding("ok", "workflows", "any name runs; one that is not configured gets the defaults")


def _limits(limits: Mapping[str, int], concurrency: int | None) -> str:
    words = [f"{limit:,} {name}" for name, limit in limits.items()]
    if concurrency is not None:
        words.append(f"{concurrency:,} in flight")
    return ", ".join(words) or "the account's limits"
