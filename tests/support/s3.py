"""moto's S3, over HTTP, with refusals when a test wants them.

    s3 = s3_fixture()    # in a test's file: the fixture `s3`, for all its tests

The tests of a file need `pytestmark = pytest.mark.filterwarnings("ignore")`: botocore and werkzeug warn.
"""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import pytest
from werkzeug.serving import make_server

#: The bucket that exists.
BUCKET: Final = "nights"


class Store:
    """The server; `refuse` says how many of the next requests to a path that holds `on` get a 503."""

    def __init__(self) -> None:
        # The import takes seconds, and `make test` collects this file without running it.
        from moto.server import DomainDispatcherApplication, create_backend_app  # noqa: PLC0415

        self.application = DomainDispatcherApplication(create_backend_app)
        self.refuse = 0
        self.on = ""
        self.refused = 0
        self.server = make_server("127.0.0.1", 0, self.answer, threaded=True)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if self.refuse and self.on in environ["PATH_INFO"]:
            self.refuse -= 1
            self.refused += 1
            start("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"]
        answer: Iterable[bytes] = self.application(environ, start)
        return answer

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
        }


def s3_fixture() -> Any:
    """An S3 that serves all tests of the file, and is in their environment."""

    @pytest.fixture(name="s3", scope="module")
    def s3() -> Iterator[Store]:
        store = Store()
        patch = pytest.MonkeyPatch()
        for name, value in store.environment().items():
            patch.setenv(name, value)
        from s3fs import S3FileSystem  # noqa: PLC0415 - as moto

        S3FileSystem.clear_instance_cache()  # those of another file's server
        # moto keeps the buckets of another server in this process.
        make = f"import s3fs; s3fs.S3FileSystem().makedirs({BUCKET!r}, exist_ok=True)"
        subprocess.run([sys.executable, "-c", make], check=True)
        yield store
        patch.undo()
        store.server.shutdown()
        store.thread.join()
        store.server.server_close()

    return s3
