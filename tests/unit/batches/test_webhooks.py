"""Where webhooks may go, how long one may take, and how they are signed."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tasks.batches import webhooks
from tasks.batches.webhook_address import AddressRefused, is_public, resolved
from tasks.batches.webhooks import TIMEOUT, NotDelivered, deliver, signed, tell
from tests.support.certificates import write_certificate
from tests.support.receiver import Answer, Receiver, dripping, silent, status
from tests.support.toml import provider
from workers.config.server_settings import WebhookSettings
from workers.config.settings import load

PRIVATE_V4 = ["0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.5.5", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.168.1.1", "198.18.0.1", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"]  # fmt: skip  # noqa: E501

#: Other forms of loopback that a resolver may understand.
ODD = ["localhost", "2130706433", "0x7f.1", "0x7f000001", "017700000001", "127.1", "127.0.1", "0"]

PRIVATE_V6 = ["::", "::1", "fe80::1", "fe80::1%1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "100::1", "2001:db8::1", "2001::1", "2001:2::1", "2002::1", "5f00::1", "4000::1"]  # fmt: skip  # noqa: E501

#: Prefixes and suffixes that make an IPv6 address of an IPv4 address.
AROUND = ["::ffff:{}", "64:ff9b::{}"]

#: Tunnels and translations whose ends are unknown.
NEVER = ["::{}", "::ffff:0:{}", "64:ff9b:1::{}", "2001:0:{}::", "fe80::5efe:{}"]


@pytest.mark.parametrize("address", [*PRIVATE_V4, *PRIVATE_V6])
def test_a_private_address_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("form", AROUND)
def test_an_ipv4_address_inside_ipv6_counts(form: str) -> None:
    assert [address for address in PRIVATE_V4 if is_public(form.format(address))] == []
    assert is_public(form.format("93.184.216.34"))


@pytest.mark.parametrize("address", ["10.0.0.1", "93.184.216.34"])
def test_tunnels_and_unknown_translations_are_not_public(address: str) -> None:
    assert [form for form in NEVER if "{}::" not in form and is_public(form.format(address))] == []
    high, low = (int.from_bytes(bytes(map(int, address.split(".")))[at : at + 2]) for at in (0, 2))
    assert not is_public(f"2002:{high:x}:{low:x}::1")
    assert not is_public(f"2001:0:{high:x}:{low:x}::1")


def test_public_addresses_are_public() -> None:
    assert all(map(is_public, ["93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001::200e"]))


@pytest.mark.parametrize("host", [*ODD, "127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"])
def test_a_host_that_leads_to_this_machine_is_refused_unless_it_is_allowed(host: str) -> None:
    with pytest.raises(AddressRefused, match=r"private|resolved"):
        resolved(host, 443, private=False)


def test_public_hosts_and_allowed_ones_pass() -> None:
    assert resolved("93.184.216.34", 443, private=False) == "93.184.216.34"
    assert resolved("127.0.0.1", 80, private=True) == "127.0.0.1"


def test_a_name_that_does_not_resolve_is_refused() -> None:
    with pytest.raises(AddressRefused, match="resolved"):
        resolved("nowhere.invalid", 443, private=False)


def hook(url: str = "http://127.0.0.1:9", **more: object) -> WebhookSettings:
    return WebhookSettings.model_validate({"url": url, "secret": "env:HOOK", "allow_private": True, **more})


def send(webhook: WebhookSettings, message: dict[str, Any]) -> None:
    asyncio.run(deliver(webhook, message))


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


def test_an_event_is_signed_with_each_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"HOOK": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "OLD": "plain-secret"}
    monkeypatch.setenv("OLD", secrets["OLD"])
    body = json.dumps({"id": "evt_1"}).encode()
    headers = signed(hook(secret=["env:HOOK", "env:OLD"]), "evt_1", body)
    assert Webhook(secrets["HOOK"]).verify(body, headers) == {"id": "evt_1"}
    assert Webhook(secrets["OLD"].encode()).verify(body, headers) == {"id": "evt_1"}


def test_a_secret_that_is_not_set_is_named() -> None:
    with pytest.raises(NotDelivered, match="OLD is not set"):
        send(hook(secret=["env:HOOK", "env:OLD"]), {"id": "evt_1"})


def test_a_hook_that_cannot_be_reached_is_not_delivered() -> None:
    with pytest.raises(NotDelivered, match="ConnectError"):
        send(hook(), {"id": "evt_1"})


def test_a_record_that_cannot_be_read_is_another_try(tmp_path: Path) -> None:
    (tmp_path / "overnight.toml").write_text(f'redis_url = "redis://127.0.0.1:9/0"\n{provider("http://127.0.0.1:9")}')
    with pytest.raises(NotDelivered, match="record cannot be read"):
        asyncio.run(tell(load(tmp_path / "overnight.toml"), "batch_1", "bridge"))


def test_certificates_that_cannot_be_read_are_another_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.pem").write_text("nothing")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "broken.pem"))
    with pytest.raises(NotDelivered, match="SSLError"):
        send(hook("https://127.0.0.1:9"), {"id": "evt_1"})


def test_a_hook_at_a_private_address_is_not_called_unless_allowed() -> None:
    with Receiver(status(204)) as receiver:
        with pytest.raises(NotDelivered, match="allow_private"):
            send(hook(receiver.url, allow_private=False), {"id": "evt_1"})
        assert receiver.requests == []
        send(hook(f"{receiver.url}/a?b=c"), {"id": "evt_1"})
    (request,) = receiver.requests
    assert (request.path, request.headers["host"]) == ("/a?b=c", f"localhost:{receiver.port}")


@pytest.mark.parametrize("code", [200, 202, 299, 410])
def test_any_2xx_and_410_end_the_tries(code: int) -> None:
    with Receiver(Answer([b"HTTP/1.1 %d Well\r\ncontent-length: 0\r\n\r\n" % code])) as receiver:
        send(hook(receiver.url), {"id": "evt_1"})


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(code: int) -> None:
    with Receiver(status(204)) as there, Receiver(status(code, location=there.url)) as receiver:
        with pytest.raises(NotDelivered, match=str(code)):
            send(hook(receiver.url), {"id": "evt_1"})
        assert (len(receiver.requests), there.requests) == (1, [])


@pytest.mark.parametrize("answer", [silent(), dripping(0.02)], ids=["silent", "dripping"])
def test_a_receiver_that_is_silent_or_drips_is_given_up_in_time(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT", 0.5)
    took(answer, 0.5)


@pytest.mark.long
@pytest.mark.parametrize("answer", [silent(), dripping(0.1)], ids=["silent", "dripping"])
def test_the_real_time_of_a_receiver_is_bounded(answer: Answer) -> None:
    took(answer, TIMEOUT)


def took(answer: Answer, seconds: float) -> None:
    """Deliver to a receiver that never ends its answer, and check the time that it takes."""
    with Receiver(answer) as receiver:
        began = time.monotonic()
        with pytest.raises(NotDelivered, match="no answer in"):
            send(hook(receiver.url), {"id": "evt_1"})
        assert seconds <= time.monotonic() - began < seconds + 5.0


def test_a_body_that_never_ends_is_not_read() -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    with Receiver(Answer([head], hold=60.0)) as receiver:
        send(hook(receiver.url), {"id": "evt_1"})


def test_a_certificate_is_checked_for_the_name_not_for_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_certificate(tmp_path, "localhost")
    with Receiver(status(204), certificates=tmp_path) as receiver:
        with pytest.raises(NotDelivered, match="ConnectError"):
            send(hook(receiver.url), {"id": "evt_1"})  # an unknown authority
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        send(hook(receiver.url), {"id": "evt_1"})
        with pytest.raises(NotDelivered, match="ConnectError"):
            send(hook(f"https://127.0.0.1:{receiver.port}"), {"id": "evt_1"})  # a certificate for another name
    assert [request.headers["host"] for request in receiver.requests] == [f"localhost:{receiver.port}"]
