"""A way to Redis that falls silent: connections stay open, and nothing goes through them any more.

with SilentProxy(port) as proxy:
    redis_url = f"redis://127.0.0.1:{proxy.port}/0"
    proxy.silence()            # those that are open now, for good; new ones work
    proxy.silence(new=True)    # and every new one, until `proxy.speak()`
"""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class SilentProxy:
    """Forwards to `port` on this machine, each connection in two threads."""

    def __init__(self, port: int) -> None:
        self.behind = port
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self.listening.getsockname()[1])
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._generation = 0
        self._deaf = False
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        with suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.reset()

    def silence(self, *, new: bool = False) -> int:
        """Nothing goes through what is open now; how many connections that are. `new`: nor through new ones."""
        with self._lock:
            self._generation += 1
            self._deaf = new
            return len(self._open) // 2

    def speak(self) -> None:
        """New connections work. Those that were opened before stay silent."""
        with self._lock:
            self._generation += 1
            self._deaf = False

    def reset(self) -> None:
        """Close everything that is open."""
        with self._lock:
            found, self._open = self._open, []
        for each in found:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while not self.ended.is_set():
            try:
                before, _ = self.listening.accept()
            except OSError:
                return
            with self._lock:
                generation = self._generation if not self._deaf else -1
            try:
                behind = socket.create_connection(("127.0.0.1", self.behind), 5)
            except OSError:
                before.close()
                continue
            behind.settimeout(None)
            with self._lock:
                self._open += [before, behind]
            for source, sink in ((before, behind), (behind, before)):
                threading.Thread(target=self._pump, args=(source, sink, generation), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, generation: int) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if generation == self._generation:
                    sink.sendall(data)
            if generation == self._generation:
                sink.shutdown(socket.SHUT_WR)
