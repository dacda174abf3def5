"""Calls `[webhooks.NAME]` when a batch ends, with OpenAI's events, signed as Standard Webhooks.

The end of a batch leaves a tick (lua/advance.lua), which puts a message for each webhook into the batch's queue. The
message is repeated after each of `DELAYS` until the webhook answers with a 2xx. All tries have the same `webhook-id`:
receivers recognise a repetition by it.
"""

import asyncio
import hashlib
import logging
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import orjson
import redis

from limits.errors import LimitsError
from tasks.batches.batch import Batch
from tasks.batches.store import Store, open_store
from tasks.batches.webhook_address import AddressRefused, resolved
from workers.celery import app
from workers.config.credentials import MissingSecretError
from workers.config.current import current_settings
from workers.config.server_settings import WebhookSettings
from workers.config.settings import Settings
from workers.transport.queues import queue_name

log = logging.getLogger(__name__)

#: Begins the name of the tick that calls a batch's webhooks.
NOTIFY: Final = "notify"

#: The name of the task that calls one.
WEBHOOK: Final = "overnight.webhook"

#: Seconds before each retry.
DELAYS: Final = (5, 300, 1_800, 7_200, 28_800, 86_400)

#: Seconds for one call of a webhook: connection, request and answer.
TIMEOUT: Final = 10.0


class NotDelivered(Exception):  # noqa: N818 - says what happened
    """A webhook could not be called, or did not answer with a 2xx. The message contains no address."""


def notify(settings: Settings, batch: Batch) -> None:
    """Put a message for each webhook of a batch that has ended into its queue."""
    for name, webhook in settings.webhooks.items():
        if _is_for(webhook, batch):
            app.send_task(WEBHOOK, kwargs={"batch": batch.id, "webhook": name}, queue=queue_name(batch.workflow))


def _is_for(webhook: WebhookSettings, batch: Batch) -> bool:
    """Whether this batch's end is sent to the webhook."""
    return webhook.workflows is None or batch.workflow in webhook.workflows


@app.task(name=WEBHOOK, bind=True, max_retries=len(DELAYS), ignore_result=True)  # type: ignore[untyped-decorator]  # Celery has no types
async def call_webhook(task: Any, batch: str, webhook: str) -> None:
    """Call a webhook, and again later if that fails."""
    try:
        await tell(current_settings(), batch, webhook)
    except NotDelivered as exc:
        tries = task.request.retries
        if tries >= len(DELAYS):
            log.error("webhook %s could not be called for the end of %s: %s", webhook, batch, exc)  # noqa: TRY400 - the message is enough
            return
        log.warning("webhook %s could not be called for %s, next try in %d s: %s", webhook, batch, DELAYS[tries], exc)
        raise await asyncio.to_thread(task.retry, countdown=DELAYS[tries], exc=exc, throw=False) from None


async def tell(settings: Settings, batch: str, webhook: str) -> None:
    """Call a webhook for the end of a batch. The message is not trusted: the batch's record says how it ended."""
    found, hook = await asyncio.to_thread(_record, settings, batch), settings.webhooks.get(webhook)
    if found is None or not found.over:
        return  # it was deleted, or runs again: another end makes another event
    if hook is None or not _is_for(hook, found):
        return  # it is no longer configured, or not for this workflow
    await deliver(hook, event(found))


def _record(settings: Settings, batch: str) -> Batch | None:
    try:
        store: Store = open_store(settings)
        try:
            return store.batch(batch)
        finally:
            store.client.close()
    except (redis.RedisError, LimitsError) as exc:
        raise NotDelivered(f"the batch's record cannot be read: {type(exc).__name__}") from None


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


async def deliver(webhook: WebhookSettings, message: dict[str, Any]) -> None:
    """Send an event. NotDelivered if the webhook doesn't take it within `TIMEOUT`."""
    body = orjson.dumps(message)
    headers = {"content-type": "application/json", **signed(webhook, message["id"], body)}
    try:
        async with asyncio.timeout(TIMEOUT):
            status = await _post(webhook, headers, body)
    except TimeoutError:
        raise NotDelivered(f"no answer in {TIMEOUT:g} s") from None
    except AddressRefused as exc:
        raise NotDelivered(str(exc)) from None
    if status == HTTPStatus.GONE:
        log.warning("a webhook answers 410: it wants to hear no more of this event")
    elif status // 100 != 2:  # noqa: PLR2004 - 2xx
        raise NotDelivered(f"it answers {status}")


async def _post(webhook: WebhookSettings, headers: dict[str, str], body: bytes) -> int:
    """POST to the webhook; returns the status."""
    import httpx  # noqa: PLC0415 - 0.2 s, only where a webhook is called

    try:
        async with httpx.AsyncHTTPTransport() as transport:
            url = httpx.URL(webhook.url)
            host, secure = url.raw_host.decode(), url.scheme == "https"
            port = url.port or (443 if secure else 80)
            address = await asyncio.to_thread(resolved, host, port, private=webhook.allow_private)
            request = httpx.Request(
                "POST",
                url.copy_with(host=address),
                content=body,
                headers={"host": url.netloc.decode(), **headers},
                extensions={"sni_hostname": host} if secure else {},
            )
            # Without a client, which would log the address and follow redirects.
            answer = await transport.handle_async_request(request)
            await answer.aclose()
            return answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as exc:  # OSError: the certificates of SSL_CERT_FILE
        raise NotDelivered(type(exc).__name__) from None


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
