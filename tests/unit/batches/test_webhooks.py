"""Where webhooks may go, and how they are signed."""

import json

import pytest
from standardwebhooks import Webhook

from tasks.batches.webhooks import NotDelivered, deliver, resolved, signed
from workers.config.server_settings import WebhookSettings

PRIVATE = ["127.0.0.1", "10.0.0.1", "172.16.5.5", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "224.0.0.1", "localhost", "2130706433", "0x7f.1"]  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("host", PRIVATE)
def test_a_private_address_is_refused_unless_it_is_allowed(host: str) -> None:
    with pytest.raises(NotDelivered, match=r"private|resolved"):
        resolved(host, 443, private=False)


def test_public_addresses_and_allowed_ones_pass() -> None:
    assert resolved("93.184.216.34", 443, private=False) == "93.184.216.34"
    assert resolved("127.0.0.1", 80, private=True) == "127.0.0.1"


def test_a_name_that_does_not_resolve_is_not_delivered() -> None:
    with pytest.raises(NotDelivered, match="resolved"):
        resolved("nowhere.invalid", 443, private=False)


def hook(**more: object) -> WebhookSettings:
    return WebhookSettings.model_validate({"url": "http://127.0.0.1:9", "secret": ["env:HOOK", "env:OLD"], **more})


def test_an_event_is_signed_with_each_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"HOOK": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "OLD": "plain-secret"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    body = json.dumps({"id": "evt_1"}).encode()
    headers = signed(hook(), "evt_1", body)
    assert Webhook(secrets["HOOK"]).verify(body, headers) == {"id": "evt_1"}
    assert Webhook(secrets["OLD"].encode()).verify(body, headers) == {"id": "evt_1"}


def test_a_secret_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "x")
    with pytest.raises(NotDelivered, match="OLD is not set"):
        deliver(hook(allow_private=True), {"id": "evt_1"})


def test_a_hook_that_cannot_be_reached_is_not_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "x")
    with pytest.raises(NotDelivered, match="ConnectError"):
        deliver(hook(secret="env:HOOK", allow_private=True), {"id": "evt_1"})
