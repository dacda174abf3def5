"""Flower's application, with a check before each request and the headers that keep a page's scripts its own."""

import base64
import binascii
from typing import Any, Final

from flower.app import Flower
from tornado import httputil, web

from tasks.monitoring.flower import guard

#: What a page may load, run and be shown in: scripts from this server only, and none within the page.
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
    """Sends `HEADERS` with every answer, whichever handler gives it."""

    def __init__(self, request: httputil.HTTPServerRequest) -> None:
        del request

    def transform_first_chunk(
        self, status_code: int, headers: httputil.HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, httputil.HTTPHeaders, bytes]:
        """Add them."""
        del finishing
        for name, value in HEADERS.items():
            headers[name] = value
        return status_code, headers, chunk


class Refused(web.RequestHandler):
    """Answers a request that no handler of Flower's may see."""

    def initialize(self, status: int, words: str) -> None:
        """Take over what is answered."""
        self.status, self.words = status, words

    def check_xsrf_cookie(self) -> None:
        """Nothing is done here that another site could want."""

    def prepare(self) -> None:
        """Answer."""
        self.set_status(self.status)
        if self.status == 401:  # noqa: PLR2004 - HTTP's own
            self.set_header("WWW-Authenticate", 'Basic realm="flower"')
        self.set_header("Content-Type", "text/plain")
        self.finish(self.words)


class Door(Flower):  # type: ignore[misc]  # Flower has no types
    """Flower behind the check."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.transforms.append(SafeHeaders)

    def find_handler(self, request: httputil.HTTPServerRequest, **options: Any) -> Any:
        """The handler of a request, as Tornado asks for it."""
        if not guard.is_expected_host(self.options, request.host_name):
            # A name that leads here is no reason to answer: any site can have its own lead to 127.0.0.1.
            return self._refuse(request, 403, "open Flower by the address that it prints: localhost or 127.0.0.1")
        if not is_ascii(request.headers.get("Authorization", "")):
            return self._refuse(request, 401, "Access denied")
        return super().find_handler(request, **options)

    def _refuse(self, request: httputil.HTTPServerRequest, status: int, words: str) -> Any:
        return self.get_handler_delegate(request, Refused, {"status": status, "words": words})


def is_ascii(authorization: str) -> bool:
    """Whether the credentials of a header are ASCII, as far as they can be read; Flower compares no others."""
    kind, _, encoded = authorization.partition(" ")
    if kind != "Basic":
        return authorization.isascii()
    try:
        return base64.b64decode(encoded).isascii()
    except (ValueError, binascii.Error):
        return authorization.isascii()
