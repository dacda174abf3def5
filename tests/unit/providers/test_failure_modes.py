"""Every failure of a provider, through the real client."""

import asyncio
import pickle
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.simulator import Simulator
from tests.unit.providers.conftest import KEY, call, chat, with_provider
from workers.providers import (
    AccountBlocked,
    CallFailed,
    Interrupted,
    Provider,
    ProviderError,
    Refused,
    Throttled,
    TooLarge,
    Unavailable,
    connect,
)
from workers.providers.bodies import CHAT, MESSAGES
from workers.providers.errors import Broken

MODES: list[tuple[str, type[ProviderError], str, bool]] = [
    # mode, error, code, billed
    ("400", Refused, "invalid_request_error", False),
    ("401", AccountBlocked, "invalid_api_key", False),
    ("402", AccountBlocked, "invalid_request_error", False),
    ("403", AccountBlocked, "invalid_request_error", False),
    ("404", Refused, "model_not_found", False),
    ("408", Interrupted, "invalid_request_error", False),
    ("409", Interrupted, "invalid_request_error", False),
    ("413", TooLarge, "invalid_request_error", False),
    ("422", Refused, "invalid_request_error", False),
    ("429", Throttled, "rate_limit_exceeded", False),
    ("498", Throttled, "invalid_request_error", False),
    ("500", CallFailed, "server_error", False),
    ("502", CallFailed, "server_error", True),
    ("503", Unavailable, "slow_down", False),
    ("504", CallFailed, "server_error", True),
    ("529", Unavailable, "server_error", False),
    ("insufficient_quota", AccountBlocked, "insufficient_quota", False),
    ("spend_cap", AccountBlocked, "invalid_request_error", False),
    ("too_large", TooLarge, "rate_limit_exceeded", False),
    ("echo_key", AccountBlocked, "invalid_api_key", False),
    ("no_message", CallFailed, "http_500", False),
    ("integer_code", CallFailed, "server_error", False),
    ("redirect", CallFailed, "http_302", False),
    ("reset", CallFailed, "connection_lost", True),
    ("disconnect", CallFailed, "connection_lost", True),
    ("half", CallFailed, "broken_body", True),
    ("empty", Broken, "empty_body", True),
    ("html", CallFailed, "broken_body", True),
    ("html502", CallFailed, "http_502", True),
    ("garbage", Broken, "broken_body", True),
    ("not_object", Broken, "broken_body", True),
    ("error_in_200", CallFailed, "broken_body", True),
    ("sse_error", Unavailable, "overloaded_error", True),
    ("huge", Refused, "answer_too_large", True),
    ("huge_told", Refused, "answer_too_large", True),
]


@pytest.mark.parametrize(("mode", "kind", "code", "billed"), MODES, ids=[row[0] for row in MODES])
def test_mode(
    simulator: Simulator, mode: str, kind: type[ProviderError], code: str, billed: bool
) -> None:  # a table's column
    simulator.configure(failures=[{"mode": mode}])
    with pytest.raises(ProviderError) as raised:
        call(simulator.base_url)
    error = raised.value
    assert type(error) is kind
    assert (error.code, error.billed) == (code, billed)
    assert error.message
    (entry,) = simulator.journal()
    assert entry["mode"] == mode
    # Whatever the provider bills, the error says that it may have been billed.
    assert error.billed or not entry["cost_nusd"]
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)


def test_no_call_is_sent_twice(simulator: Simulator) -> None:
    """Retries are the scheduler's, never the client's: not even after a reset on a used connection."""
    simulator.configure(failures=[{"mode": "reset", "after": 1}])

    async def use(provider: Provider) -> None:
        await provider.call(CHAT, chat(), model="m", key=KEY)
        with pytest.raises(Interrupted):
            await provider.call(CHAT, chat(), model="m", key=KEY)

    with_provider(simulator.base_url, use)
    assert len(simulator.journal()) == 2


def test_an_answer_without_usage_reports_none(simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "no_usage"}])
    assert call(simulator.base_url).usage is None


def test_a_hang_ends_at_the_timeout_and_is_billed_by_both(simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "hang"}])
    started = time.monotonic()
    with pytest.raises(CallFailed, match="timeout") as raised:
        call(simulator.base_url, timeout=0.3)
    assert 0.25 < time.monotonic() - started < 3
    assert raised.value.billed
    (entry,) = wait_until_done(simulator, 1)
    assert entry["hung_up"]
    assert entry["cost_nusd"] > 0


def test_a_drip_ends_at_the_timeout_of_the_whole_call(simulator: Simulator) -> None:
    """Each byte comes in time; the answer does not."""
    simulator.configure(failures=[{"mode": "drip", "seconds": 3.0}])
    started = time.monotonic()
    with pytest.raises(CallFailed, match="timeout"):
        call(simulator.base_url, timeout=0.5)
    assert time.monotonic() - started < 2


def test_a_slow_answer_in_time_counts(simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "drip", "seconds": 0.3}])
    assert call(simulator.base_url).status == 200


def test_a_refused_connection() -> None:
    with pytest.raises(CallFailed, match="connect") as raised:
        call("http://127.0.0.1:1")
    assert not raised.value.billed


def test_an_unknown_host() -> None:
    with pytest.raises(CallFailed, match="dns") as raised:
        call("http://nobody.invalid")
    assert not raised.value.billed


def test_a_server_that_does_not_speak_http() -> None:
    with listening() as (port, server), server:

        async def run() -> None:
            provider = connect("acme", "openai", f"http://127.0.0.1:{port}", 5.0)
            try:
                await provider.call(CHAT, chat(), model="m", key=KEY)
            finally:
                await provider.close()

        async def answer() -> None:
            loop = asyncio.get_running_loop()
            connection, _ = await loop.sock_accept(server)
            with connection:
                await loop.sock_recv(connection, 65536)
                await loop.sock_sendall(connection, b"220 mail.example ESMTP\r\n\r\n")

        async def both() -> None:
            await asyncio.gather(run(), answer())

        with pytest.raises(CallFailed, match="broken_answer"):
            asyncio.run(both())


def test_a_throttled_call_has_wait_and_limits(simulator: Simulator) -> None:
    simulator.configure(models={"*": {"rpm": 6, "burst_s": 10}})

    async def use(provider: Provider) -> Throttled:
        await provider.call(CHAT, chat(), model="m", key=KEY)
        with pytest.raises(Throttled) as raised:
            await provider.call(CHAT, chat(), model="m", key=KEY)
        return raised.value

    error = with_provider(simulator.base_url, use)
    assert error.retry_after == 10.0
    assert error.limits is not None
    assert error.limits.rpm is not None
    assert (error.limits.rpm.limit, error.limits.rpm.remaining) == (6, 0)
    assert error.request_id is not None


@pytest.mark.parametrize("form", ["seconds", "fraction", "date", "ms", "gemini", "text", "azure-text"])
def test_every_form_of_retry_after(simulator: Simulator, form: str) -> None:
    simulator.configure(models={"*": {"rpm": 6, "burst_s": 10}}, retry_after=form, headers=False)
    assert 9.5 < (throttled_twice(simulator).retry_after or 0) <= 11.0


def test_no_form_of_retry_after_at_all(simulator: Simulator) -> None:
    simulator.configure(models={"*": {"rpm": 6, "burst_s": 10}}, retry_after="absent", headers=False)
    assert throttled_twice(simulator).retry_after is None


def test_503_with_a_wait(simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "503", "retry_after": "900"}])
    with pytest.raises(Unavailable) as raised:
        call(simulator.base_url)
    assert raised.value.retry_after == 900.0


def test_anthropics_errors(simulator: Simulator) -> None:
    for mode, kind in (("529", Unavailable), ("429", Throttled), ("spend_cap", AccountBlocked)):
        simulator.configure(failures=[{"mode": mode}])
        with pytest.raises(kind):
            call(simulator.base_url, url=MESSAGES, api="anthropic")


def test_a_cancelled_call_leaves_nothing_behind(simulator: Simulator) -> None:
    simulator.configure(latency=30.0)

    async def use(provider: Provider) -> None:
        task = asyncio.create_task(provider.call(CHAT, chat(), model="m", key=KEY))
        while not simulator.stats()["in_flight"]:  # noqa: ASYNC110  # the simulator is another process
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with_provider(simulator.base_url, use)
    (entry,) = wait_until_done(simulator, 1)
    assert entry["hung_up"]


def throttled_twice(simulator: Simulator) -> Throttled:
    async def use(provider: Provider) -> Throttled:
        await provider.call(CHAT, chat(), model="m", key=KEY)
        with pytest.raises(Throttled) as raised:
            await provider.call(CHAT, chat(), model="m", key=KEY)
        return raised.value

    return with_provider(simulator.base_url, use)


def wait_until_done(simulator: Simulator, requests: int) -> list[dict[str, Any]]:
    """The journal, once `requests` requests have ended."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        stats = simulator.stats()
        if stats["requests"] == requests and not stats["in_flight"]:
            return simulator.journal()
        time.sleep(0.01)
    raise AssertionError(f"requests are still in flight: {simulator.stats()}")


@contextmanager
def listening() -> Iterator[tuple[int, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)  # the socket module's own signature
        yield server.getsockname()[1], server
