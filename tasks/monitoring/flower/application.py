"""Flower's application, with a check before each request and headers that keep foreign scripts out of its pages."""

import base64
import binascii
from typing import Any, Final

from flower.app import Flower
from tornado import httputil, web

from tasks.monitoring.flower import guard

#: What a page may load and run, and where it may be framed: only scripts from this server, and none inline.
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class SafeHeaders(web.OutputTransform):
    """Adds `HEADERS` to every answer of every handler."""

    def __init__(self, request: httputil.HTTPServerRequest) -> None:
        del request

    def transform_first_chunk(
        self, status_code: int, headers: httputil.HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, httputil.HTTPHeaders, bytes]:
        del finishing
        for name, value in HEADERS.items():
            headers[name] = value
        return status_code, headers, chunk


class Refused(web.RequestHandler):
    """Answers a request that must not reach Flower's handlers."""

    def initialize(self, status: int, words: str) -> None:
        """Set the answer."""
        self.status, self.words = status, words

    def check_xsrf_cookie(self) -> None:
        """Skip the check: this handler changes nothing."""

    def prepare(self) -> None:
        """Send the answer before any method runs."""
        self.set_status(self.status)
        if self.status == 401:  # noqa: PLR2004 - HTTP's own
            self.set_header("WWW-Authenticate", 'Basic realm="flower"')
        self.set_header("Content-Type", "text/plain")
        self.finish(self.words)


class GuardedFlower(Flower):  # type: ignore[misc]  # Flower has no types
    """Flower, with a check of each request's host and credentials."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.transforms.append(SafeHeaders)

    def find_handler(self, request: httputil.HTTPServerRequest, **options: Any) -> Any:
        """Return the handler of a request, for Tornado."""
        if not guard.is_expected_host(self.options, request.host_name):
            # DNS rebinding: any site can point a name of its own at 127.0.0.1.
            return self._refuse(request, 403, "open Flower at the address that it prints: localhost or 127.0.0.1")
        if not is_ascii(request.headers.get("Authorization", "")):
            return self._refuse(request, 401, "Access denied")
        return super().find_handler(request, **options)

    def _refuse(self, request: httputil.HTTPServerRequest, status: int, words: str) -> Any:
        return self.get_handler_delegate(request, Refused, {"status": status, "words": words})


def is_ascii(authorization: str) -> bool:
    """Whether a header's credentials are ASCII, if they can be decoded. Flower fails on any others."""
    kind, _, encoded = authorization.partition(" ")
    if kind != "Basic":
        return authorization.isascii()
    try:
        return base64.b64decode(encoded).isascii()
    except (ValueError, binascii.Error):
        return authorization.isascii()
