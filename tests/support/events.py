"""Celery's events, as Flower receives them."""

import contextlib
import threading
from types import TracebackType
from typing import Any, Self

from celery import Celery

from tests.support.site import wait_for


class Events:
    """Listens to a broker while the block runs."""

    def __init__(self, url: str) -> None:
        self.app = Celery("listener", broker=url, set_as_current=False)
        self.heard: list[dict[str, Any]] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._listens = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listens.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        self._thread.join(10)
        self.app.close()

    def count(self, kind: str) -> int:
        return sum(event["type"] == kind for event in list(self.heard))

    def wait(self, kind: str, count: int, seconds: float = 20.0) -> None:
        """Wait until exactly `count` have been received."""
        wait_for(lambda: self.count(kind) >= count, seconds, what=f"{count} {kind}")
        assert self.count(kind) == count

    def _listen(self) -> None:
        with self.app.connection() as connection:
            receiver = self.app.events.Receiver(connection, handlers={"*": self.heard.append})
            with contextlib.suppress(OSError), receiver.consumer_context(wakeup=False) as (listening, _, _):
                self._listens.set()
                while not self._stopping:
                    with contextlib.suppress(TimeoutError):
                        listening.drain_events(timeout=0.2)
