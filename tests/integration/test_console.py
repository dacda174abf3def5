"""The command line as people use it: pipes, closed terminals, signed URLs, answers that would control a terminal."""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.simulator import Simulator
from tests.support.fixtures import site_fixture
from tests.support.site import Site, job, jobs, wait_for

pytestmark = pytest.mark.long

SECRET = "hunter22", "SECRET-123"


site = site_fixture()


@contextmanager
def signed(file: Path, log: list[str]) -> Iterator[str]:
    """A URL that must hold credentials to be answered."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            log.append(self.path)
            granted = self.path.endswith("X-Amz-Signature=SECRET-123") and "Authorization" in self.headers
            data = file.read_bytes() if granted else b""
            self.send_response(200 if granted else 403)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://user:hunter22@127.0.0.1:{server.server_port}/in/t.jsonl?X-Amz-Signature=SECRET-123"
        server.shutdown()


def test_a_run_under_nohup_from_a_pipe_to_stdout(site: Site, simulator: Simulator) -> None:
    simulator.configure(latency=2.0, failures=[{"mode": "400", "job": "fails"}])
    hostile = "a\x1b]52;c;cHduZWQ=\x07\x1b[2J\x9b31m"
    lines = [job(1, text="one") | {"custom_id": hostile}, *jobs(3), job(9, text="fails")]
    command = f"trap '' HUP; exec {sys.executable} -m tasks run <(cat '{site.input(lines)}') -o - --workers 1"
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=site.folder,
        env=site.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for(lambda: simulator.stats()["in_flight"], 60, what="a call")
    os.killpg(process.pid, signal.SIGHUP)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    answered = {json.loads(line)["custom_id"] for line in out.splitlines()}
    assert answered == {hostile, *(line["custom_id"] for line in jobs(3))}
    told = err.decode()
    assert "4 succeeded, 1 failed" in told
    assert "--errors FILE" in told
    assert not {"\x1b", "\x07", "\x9b"} & set(told)
    assert not (site.folder / "-.errors").exists()
    data = site.folder / ".overnight"
    assert [path for path in data.rglob("*") if path.stat().st_mode & 0o077 and not path.is_socket()] == []


def test_an_inputs_credentials_are_in_its_request_and_nowhere_else(site: Site) -> None:
    asked: list[str] = []
    with signed(site.input(jobs(2)), asked) as url:
        submitted = site.run("submit", url, "-w", "signed")
        estimated = site.run("estimate", url, "-w", "signed")
        refused = site.run("submit", f"{url}-9", status=2)
    batch = submitted.stdout.strip()
    assert any("SECRET-123" in path for path in asked)
    assert "HTTP 403" in refused.stderr
    shown = [*(each.stdout + each.stderr for each in (submitted, estimated, refused, site.run("status", batch)))]
    client = site.client()
    for key in client.scan_iter():
        try:
            shown.append(repr(client.dump(key)) + repr(key))
        except UnicodeDecodeError:
            continue
    shown += [path.read_text(errors="replace") for path in (site.folder / ".overnight").rglob("*.log")]
    shown += [path.read_bytes().decode("latin-1") for path in (site.folder / ".overnight").rglob("*.aof")]
    for text in shown:
        assert not any(secret in text for secret in SECRET)


def test_what_a_person_can_fix_is_no_traceback(site: Site, tmp_path: Path) -> None:
    """A data_dir that cannot be written, beside a server of the user's own."""
    config = tmp_path / "overnight.toml"
    config.write_text(
        f'redis_url = "{site.redis_url()}"\ndata_dir = "/proc/overnight"\nstorage = "file://{tmp_path}/files"\n'
        + site.file.read_text()
    )
    done = site.run("run", str(site.input(jobs(1))), "-o", "x.jsonl", "--config", str(config), status=2)
    assert "/proc/overnight" in done.stderr
    assert "Traceback" not in done.stderr
