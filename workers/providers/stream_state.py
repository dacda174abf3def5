"""What is kept of a stream whose events are passed on: its usage, whether it has ended, and its error.

`summary` is the answer without its content, so that it is judged and priced like a whole answer. Events are untrusted
input: what has the wrong type is left out.
"""

from typing import Any

from workers.providers.assembly import Event, dicts
from workers.providers.endpoints import CHAT, MESSAGES, RESPONSES


class StreamState:
    """The state of one stream of `url`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.error: Any = None
        self._usage: Any = None
        self._reasons: dict[Any, Any] = {}  # by choice: its finish_reason
        self._response: dict[str, Any] | None = None
        self._ended = False

    def take(self, event: Event) -> None:
        """Note one event."""
        if event.get("error") or event.get("type") == "error":
            self.error = self.error or event.get("error") or event
            return
        match self.url:
            case _ if self.url == CHAT:
                self._usage = event.get("usage") or self._usage
                for choice in dicts(event.get("choices")):
                    index = choice.get("index")
                    if isinstance(index, int | None):
                        self._reasons[index] = choice.get("finish_reason") or self._reasons.get(index)
            case _ if self.url == RESPONSES:
                self._take_response(event)
            case _ if self.url == MESSAGES:
                self._take_message(event)

    def _take_response(self, event: Event) -> None:
        if event.get("type") in {"response.completed", "response.incomplete", "response.failed"}:
            found = event.get("response")
            if isinstance(found, dict):
                self._response = {**found, "output": [] if isinstance(found.get("output"), list) else None}

    def _take_message(self, event: Event) -> None:
        kind = event.get("type")
        source = event.get("message") if kind == "message_start" else event
        if isinstance(source, dict) and isinstance(source.get("usage"), dict):
            known = self._usage if isinstance(self._usage, dict) else {}
            self._usage = known | {name: value for name, value in source["usage"].items() if value is not None}
        self._ended = self._ended or kind == "message_stop"

    def summary(self) -> dict[str, Any] | None:
        """The answer without its content, or its error; None if the stream has not ended."""
        if self.error:
            return {"error": self.error}
        if self.url == RESPONSES:
            return self._response
        if self.url == MESSAGES:
            return {"type": "message", "content": [], "usage": self._usage or {}} if self._ended else None
        if not self._reasons or not all(self._reasons.values()):
            return None
        choices = [{"index": index, "finish_reason": reason} for index, reason in self._reasons.items()]
        return {"object": "chat.completion", "choices": choices, "usage": self._usage}
