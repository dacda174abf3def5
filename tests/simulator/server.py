"""HTTP/1.1 on a raw asyncio.Protocol, one request at a time a connection, and the endpoints of the tests."""

import asyncio
import socket
import struct
import time
from typing import Any
from urllib.parse import unquote

import orjson

from tests.simulator.config import Config, configure
from tests.simulator.faults import Plan
from tests.simulator.service import Service

_REASONS = {
    200: "OK",
    302: "Found",
    400: "Bad Request",
    429: "Too Many Requests",
    500: "Internal Server Error",
}
_HUGE_CHUNK = b"x" * (1 << 20)
_HUGE_BYTES = 80 * len(_HUGE_CHUNK)


class Connection(asyncio.Protocol):
    """One connection. A client that goes away ends its request, which stays billed."""

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.buffer = bytearray()
        self.head: tuple[str, str, str, dict[str, str]] | None = None
        self.length = 0
        self.plan: Plan | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # part of the protocol
        self.server.connections.discard(self)
        if self.timer is not None:
            self.timer.cancel()
        if self.plan is not None:
            plan, self.plan = self.plan, None
            self.server.service.finished(plan, hung_up=True)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self._next()

    def _next(self) -> None:
        if self.plan is not None:
            return
        if self.head is None:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            request, *lines = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
            del self.buffer[: end + 4]
            method, target, _ = request.split(" ", 2)
            headers = {}
            for line in lines:
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            path, _, query = target.partition("?")
            self.head = (method, unquote(path), query, headers)
            self.length = int(headers.get("content-length", 0))
        if len(self.buffer) < self.length:
            return
        content = bytes(self.buffer[: self.length])
        del self.buffer[: self.length]
        (method, path, query, headers), self.head = self.head, None
        self._begin(self.server.handle(method, path, query, headers, content))

    def _begin(self, plan: Plan) -> None:
        self.plan = plan
        loop = self.server.loop
        match plan.mode:
            case "hang":
                self.timer = loop.call_later(plan.seconds, self._send)
            case "reset" | "disconnect":
                self.timer = loop.call_later(plan.delay, self._break_off, plan.mode)
            case _ if plan.delay > 0:
                self.timer = loop.call_later(plan.delay, self._send)
            case _:
                self._send()

    def _send(self) -> None:
        plan = self.plan
        assert plan is not None
        match plan.mode:
            case "half":
                self.transport.write(self._head_of(plan, len(plan.body)) + plan.body[: len(plan.body) // 2])
                self._finish()
                self.transport.close()
            case "drip":
                self.transport.write(self._head_of(plan, len(plan.body)))
                self._drip(plan, 0)
            case "huge_told":
                self.transport.write(self._head_of(plan, _HUGE_BYTES) + _HUGE_CHUNK)
                self._finish()
            case "huge":
                head = self._head_of(plan, None)
                self.transport.write(head)
                self._pump(0)
            case _:
                self.transport.write(self._head_of(plan, len(plan.body)) + plan.body)
                self._finish()
                self._next()

    def _finish(self) -> None:
        plan, self.plan, self.timer = self.plan, None, None
        if plan is not None:
            self.server.service.finished(plan, hung_up=False)

    def _break_off(self, mode: str) -> None:
        if mode == "reset":
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self.plan is not None:
            self.plan.status = 0
        self._finish()
        self.transport.abort()

    def _drip(self, plan: Plan, sent: int) -> None:
        step = max(1, len(plan.body) // 10)
        self.transport.write(plan.body[sent : sent + step])
        if sent + step >= len(plan.body):
            self._finish()
            self._next()
        else:
            self.timer = self.server.loop.call_later(plan.seconds / 10, self._drip, plan, sent + step)

    def _pump(self, sent: int) -> None:
        if self.transport.is_closing() or sent >= _HUGE_BYTES:
            self._finish()
            self.transport.close()
            return
        if self.transport.get_write_buffer_size() < 2 * len(_HUGE_CHUNK):
            self.transport.write(b"100000\r\n" + _HUGE_CHUNK + b"\r\n")
            sent += len(_HUGE_CHUNK)
        self.timer = self.server.loop.call_later(0.001, self._pump, sent)

    def _head_of(self, plan: Plan, length: int | None) -> bytes:
        lines = [f"HTTP/1.1 {plan.status} {_REASONS.get(plan.status, 'Simulated')}"]
        if "content-type" not in plan.headers:
            lines.append("content-type: application/json")
        lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
        lines.append(f"{plan.id_header}: req-{self.server.next_id()}")
        lines += [f"{name}: {value}" for name, value in plan.headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Server:
    """The simulator on a port of its own."""

    def __init__(self, config: Config) -> None:
        self.service = Service(config)
        self.connections: set[Connection] = set()
        self.requests = 0
        self.loop: asyncio.AbstractEventLoop

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> asyncio.Server:
        self.loop = asyncio.get_running_loop()
        return await self.loop.create_server(lambda: Connection(self), host, port, backlog=4096)

    def next_id(self) -> int:
        self.requests += 1
        return self.requests

    def handle(self, method: str, path: str, query: str, headers: dict[str, str], content: bytes) -> Plan:
        try:
            if path.startswith("/_admin/"):
                return self._admin(path.removeprefix("/_admin/"), content)
            if method == "GET" and path.endswith("/models"):
                return self.service.models(path, headers)
            if (batch := self.service.batch(method, path, query, headers, content)) is not None:
                return batch
            return self.service.plan(path, query, headers, content)
        except Exception as error:  # noqa: BLE001  # a fault of the simulator must not look like a provider's
            return Plan(599, body=f"the simulator itself failed: {error!r}".encode())

    def _admin(self, action: str, content: bytes) -> Plan:
        service = self.service
        match action:
            case "journal":
                return Plan(body=service.journal.lines())
            case "batches":
                return Plan(body=orjson.dumps(service.shown_batches()))
            case "stats":
                figures: dict[str, Any] = service.journal.stats()
                figures["cpu_seconds"] = time.process_time()
                figures["batch_faults_struck"] = sum(service.batches.struck.values())
                figures["connections"] = len(self.connections)
                return Plan(body=orjson.dumps(figures))
            case "configure":
                changes = orjson.loads(content)
                try:
                    configure(service.config, changes)
                except ValueError as error:
                    return Plan(400, body=str(error).encode())
                service.reconfigured(set(changes))
                return Plan(body=b"{}")
            case "clear":
                service.clear()
                return Plan(body=b"{}")
            case _:
                return Plan(404, body=b"{}")
