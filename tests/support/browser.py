"""A headless Chromium, driven over its DevTools protocol: what a person sees, and what happens when they click.

    with Browser() as browser:
        browser.size(390, 844, phone=True)
        browser.open("http://127.0.0.1:5555/workflows", user="me:secret", wait="document.querySelector('table')")
        browser.screenshot(path)

Chromium is found as `chromium` or by CHROMIUM; `available()` returns whether there is one.
"""

import asyncio
import base64
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-color-profile=srgb"),
    *("--disable-dev-shm-usage", "--remote-debugging-port=0", "--remote-allow-origins=*"),
)


def available() -> str | None:
    """The path of a Chromium, None if there is none."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One tab."""

    def __enter__(self) -> Self:
        self.loop = asyncio.new_event_loop()
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        path = available()
        assert path, "there is no chromium: apt-get install chromium"
        self.process = subprocess.Popen(
            [path, *FLAGS, f"--user-data-dir={self.profile.name}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.number = 0
        self.console: list[str] = []
        try:
            self._run(self._connect())
            for domain in ("Page", "Runtime", "Network", "Log"):
                self.send(f"{domain}.enable")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if hasattr(self, "session"):
            self._run(self.session.close())
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.loop.close()
        self.profile.cleanup()

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """The window's size in CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.send("Emulation.setDeviceMetricsOverride", **metrics)

    def theme(self, name: str) -> None:
        """What the person's system prefers: light or dark."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def login(self, credentials: str) -> None:
        """Send `user:password` with every request."""
        encoded = base64.b64encode(credentials.encode()).decode()
        self.send("Network.setExtraHTTPHeaders", headers={"Authorization": f"Basic {encoded}"})

    def open(self, url: str, wait: str = "true", seconds: float = 20.0) -> None:
        """Go to a page and wait until `wait`, JavaScript, is true there."""
        self.send("Page.navigate", url=url)
        self.wait(f"document.readyState === 'complete' && location.href.startsWith('http') && ({wait})", seconds)

    def wait(self, condition: str, seconds: float = 20.0) -> None:
        """Wait until JavaScript is true."""
        ends = time.monotonic() + seconds
        while True:
            try:
                if self.evaluate(f"Boolean({condition})"):
                    return
            except RuntimeError:  # the page is changing
                pass
            assert time.monotonic() < ends, f"{condition} did not come true within {seconds:g} s"
            time.sleep(0.1)

    def evaluate(self, script: str) -> Any:
        """The value of JavaScript on the page."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def text(self) -> str:
        """What the page says."""
        words: str = self.evaluate("document.body.innerText")
        return words

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        pixels: int = self.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return pixels

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of the window, or of the whole page."""
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, and its answer."""
        answer: dict[str, Any] = self._run(self._ask(method, parameters))
        return answer

    def _run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, 30))

    async def _connect(self) -> None:
        told = Path(self.profile.name) / "DevToolsActivePort"
        while not told.exists() or not told.read_text().strip():
            assert self.process.poll() is None, "chromium ended at once"
            await asyncio.sleep(0.05)
        port = told.read_text().split()[0]
        self.session = aiohttp.ClientSession()
        pages: list[dict[str, Any]] = []
        while not pages:
            async with self.session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                pages = [page for page in await answer.json() if page["type"] == "page"]
        self.socket = await self.session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)

    async def _ask(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self.number += 1
        await self.socket.send_json({"id": self.number, "method": method, "params": parameters})
        while True:
            message = await self.socket.receive_json()
            if message.get("method") == "Runtime.exceptionThrown":
                self.console.append(str(message["params"]["exceptionDetails"]))
            if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.console.append(str(message["params"]["entry"]))
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                result: dict[str, Any] = message["result"]
                return result
