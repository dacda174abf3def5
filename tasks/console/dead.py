"""`overnight dead list`, `replay`, `drop`: dead letters, which no worker could run."""

from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from limits.client.connection import open_client
from limits.keys import Keys
from tasks.console import dead_view, view
from tasks.console.exit_status import errors_reported, fail
from tasks.console.options import Config, Json
from tasks.console.session import configured
from tasks.console.view import print_json
from workers.config.settings import Settings
from workers.embedded import server_url
from workers.transport import dead_letters
from workers.transport.broker import Broker, broker_url
from workers.transport.queues import key_prefix

if TYPE_CHECKING:
    import redis

app = typer.Typer(no_args_is_help=True, help="Dead letters, which no worker could run: list, put back, delete.")

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids, as `overnight dead list` prints them.")]
Every = Annotated[bool, typer.Option("--all", help="All of them.")]


@app.command("list")
def list_dead(as_json: Json = False, config: Config = None) -> None:
    """List dead letters: from which queue, when and why. Their content is private and not shown."""
    with errors_reported():
        client, broker = _opened(configured(config))
        with closing(client):
            rows = [
                {"id": one.id, "queue": one.queue, "at": _time(one.at), "bytes": len(one.message), "reason": one.reason}
                for one in dead_letters.listed(client, broker)
            ]
    print_json(rows) if as_json else dead_view.dead(rows)


@app.command()
def replay(ids: Ids = None, every: Every = False, config: Config = None) -> None:
    """Put dead letters back into their queues, after fixing the cause."""
    with errors_reported():
        settings = configured(config)
        client, broker = _opened(settings)
        with closing(client):
            chosen = _chosen(ids, every, client, broker)
            if broker_url(settings) is None:
                count = _publish(client, broker, chosen)
            else:
                count = dead_letters.replay(client, broker, chosen)
    view.say(f"{count} message{'s' if count != 1 else ''} put back into the queue")


@app.command()
def drop(ids: Ids = None, every: Every = False, config: Config = None) -> None:
    """Delete dead letters for good."""
    with errors_reported():
        client, broker = _opened(configured(config))
        with closing(client):
            count = dead_letters.drop(client, broker, _chosen(ids, every, client, broker))
    view.say(f"{count} message{'s' if count != 1 else ''} dropped")


def _opened(settings: Settings) -> tuple["redis.Redis", Broker]:
    """Open the server that keeps dead letters: the broker, or with RabbitMQ the Redis server of the state."""
    url = broker_url(settings) or server_url(settings)
    return open_client(url), Broker(Keys(settings.namespace), key_prefix(settings.namespace))


def _publish(client: "redis.Redis", broker: Broker, ids: Iterable[str]) -> int:
    """Put dead letters back into RabbitMQ. Each leaves the dead list once the broker has confirmed it."""
    from workers.celery import app as celery  # noqa: PLC0415 - only this needs it

    wanted, count = set(ids), 0
    with celery.producer_or_acquire() as producer:
        for one in dead_letters.listed(client, broker):
            if one.id not in wanted:
                continue
            kept = orjson.loads(one.message)
            producer.publish(
                kept["body"].encode(),
                exchange="",
                routing_key=one.queue,
                headers=kept["headers"],
                content_type=kept["content-type"] or "application/json",
                content_encoding=kept["content-encoding"] or "utf-8",
            )
            count += dead_letters.drop(client, broker, [one.id])
    return count


def _chosen(ids: Iterable[str] | None, every: bool, client: "redis.Redis", broker: Broker) -> list[str]:
    if every:
        return [one.id for one in dead_letters.listed(client, broker)]
    chosen = list(ids or ())
    if not chosen:
        fail("name the ids that `overnight dead list` prints, or --all")
    return chosen


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
