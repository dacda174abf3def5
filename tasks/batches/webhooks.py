"""Calls `[webhooks.NAME]` when a batch ends, with OpenAI's events, signed as Standard Webhooks.

The end of a batch leaves a tick (lua/advance.lua), which puts a message for each webhook into the batch's queue. The
message is repeated after each of `DELAYS` until the webhook answers with a 2xx. All its tries have the same
`webhook-id`, by which a receiver knows a repetition.

An address is resolved once, and that address is connected to: so a name cannot become a private address in between.
"""

import hashlib
import ipaddress
import logging
import socket
import time
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import orjson

from tasks.batches.batch import Batch
from tasks.batches.store import Store, open_store
from workers.celery import app
from workers.config.credentials import MissingSecretError
from workers.config.current import current_settings
from workers.config.server_settings import WebhookSettings
from workers.config.settings import Settings
from workers.transport.queues import queue_name

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

#: What the tick that calls the webhooks is called, before the batch's id.
NOTIFY: Final = "notify"

#: The name of the task that calls one.
WEBHOOK: Final = "overnight.webhook"

#: Seconds until each further try.
DELAYS: Final = (5, 300, 1_800, 7_200, 28_800, 86_400)

#: Seconds that a webhook has for its answer.
TIMEOUT: Final = 10.0

#: The answer of a webhook that wants no more.
_GONE: Final = 410


class NotDelivered(Exception):  # noqa: N818 - says what happened
    """A webhook could not be called, or did not answer with a 2xx. The message contains no address."""


def notify(settings: Settings, batch: Batch) -> None:
    """Put a message for each webhook of a batch that has ended into its queue."""
    for name, webhook in settings.webhooks.items():
        if webhook.workflows is None or batch.workflow in webhook.workflows:
            app.send_task(WEBHOOK, kwargs={"batch": batch.id, "webhook": name}, queue=queue_name(batch.workflow))


@app.task(name=WEBHOOK, bind=True, max_retries=len(DELAYS), ignore_result=True)  # type: ignore[untyped-decorator]  # Celery has no types
def call_webhook(task: Any, batch: str, webhook: str) -> None:
    """Call a webhook. What the message says is not believed: the event is made from the batch's record."""
    settings = current_settings()
    found, hook = _record(settings, batch), settings.webhooks.get(webhook)
    if found is None or not found.over or hook is None:
        return  # it was deleted, or runs again: another end makes another event
    try:
        deliver(hook, event(found))
    except NotDelivered as exc:
        tries = task.request.retries
        if tries >= len(DELAYS):
            log.error("webhook %s was not told of the end of %s: %s", webhook, found.id, exc)  # noqa: TRY400 - the message is enough
            return
        log.warning("webhook %s is told of %s again in %d s: %s", webhook, found.id, DELAYS[tries], exc)
        raise task.retry(countdown=DELAYS[tries], exc=exc) from None


def _record(settings: Settings, batch: str) -> Batch | None:
    store: Store = open_store(settings)
    try:
        return store.batch(batch)
    finally:
        store.client.close()


def event(batch: Batch) -> dict[str, Any]:
    """OpenAI's event for the end of a batch."""
    identity = hashlib.sha256(f"{batch.id}:{batch.round}:{batch.status}".encode()).hexdigest()
    return {
        "id": f"evt_{identity[:32]}",
        "object": "event",
        "created_at": int(batch.ended),
        "type": f"batch.{batch.status}",
        "data": {"id": batch.id},
    }


def deliver(webhook: WebhookSettings, message: dict[str, Any]) -> None:
    """Send an event; NotDelivered if the webhook doesn't take it."""
    import httpx  # noqa: PLC0415 - 0.2 s, only where a webhook is called

    body = orjson.dumps(message)
    headers = {"content-type": "application/json", **signed(webhook, message["id"], body)}
    parts = urlsplit(webhook.url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    address = resolved(host, port, private=webhook.allow_private)
    target = httpx.URL(webhook.url).copy_with(host=address)
    headers["host"] = parts.netloc
    extensions = {"timeout": httpx.Timeout(TIMEOUT).as_dict(), **({"sni_hostname": host} if secure else {})}
    request = httpx.Request("POST", target, content=body, headers=headers, extensions=extensions)
    try:
        # Without a client, which would log the address and follow redirects.
        with httpx.HTTPTransport(trust_env=False) as transport, closing(transport.handle_request(request)) as answer:
            _judge(answer)
    except httpx.HTTPError as exc:
        raise NotDelivered(type(exc).__name__) from None


def _judge(answer: "httpx.Response") -> None:
    if answer.status_code == _GONE:
        log.warning("a webhook answers 410: it wants to hear no more of this event")
    elif not answer.is_success:
        raise NotDelivered(f"it answers {answer.status_code}")


def signed(webhook: WebhookSettings, event_id: str, body: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks, with a signature for each secret."""
    from standardwebhooks import Webhook  # noqa: PLC0415 - as above

    now = datetime.fromtimestamp(int(time.time()), UTC)
    signatures = []
    for reference in webhook.secret:
        try:
            secret = reference.value()
        except MissingSecretError as exc:
            raise NotDelivered(str(exc)) from None
        try:
            signer = Webhook(secret if secret.startswith("whsec_") else secret.encode())
        except ValueError:
            raise NotDelivered(f"{reference} is not base64 after whsec_") from None
        signatures.append(signer.sign(event_id, now, body.decode()))
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def resolved(host: str, port: int, *, private: bool) -> str:
    """The address to connect to. NotDelivered if the name has none, or if it is private and `private` is False."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise NotDelivered(f"its name cannot be resolved: {exc.strerror or exc}") from None
    addresses = [str(each[4][0]) for each in found]
    if not private and not all(_is_public(each) for each in addresses):
        raise NotDelivered("its address is private; if that is right, set allow_private = true")
    return addresses[0]


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_global and not (mapped or found).is_multicast
