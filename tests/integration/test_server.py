"""The embedded server: one for every process of a data_dir, there while any of them uses it, whichever is killed."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.site import ROOT, wait_for
from workers import child_process
from workers.embedded import EmbeddedServer, ServerError, answers
from workers.embedded_keeper import FIRST_STARTS

USER = """
import sys
from pathlib import Path
from workers.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]))
print(server.url, flush=True)
sys.stdin.read()
"""


@contextmanager
def user(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that uses the server of a folder until its input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", USER, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def url_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def state(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "redis" / "state.json").read_bytes())
    return found


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def leave(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait(10)


def test_many_processes_share_one_server_until_the_last_leaves(tmp_path: Path) -> None:
    with user(tmp_path) as one, user(tmp_path) as two, user(tmp_path) as three:
        (url,) = {url_of(process) for process in (one, two, three)}
        server = state(tmp_path)["pid"]
        leave(one)
        two.kill()
        two.wait()
        assert answers(url)
        leave(three)
    wait_for(lambda: not runs(server), 20, what="the end of the server")


def test_the_server_stops_with_its_last_user_keeping_data(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    redis.Redis.from_url(server.url).set("kept", "yes")
    pids = state(tmp_path)["pid"], state(tmp_path)["keeper"]
    server.leave()
    wait_for(lambda: not any(map(runs, pids)), 20, what="the end of the server and its keeper")
    again = EmbeddedServer(tmp_path)
    try:
        assert redis.Redis.from_url(again.url).get("kept") == b"yes"
    finally:
        again.leave()


def test_a_killed_user_leaves_no_server_behind(tmp_path: Path) -> None:
    with user(tmp_path) as process:
        url_of(process)
        pids = state(tmp_path)["pid"], state(tmp_path)["keeper"]
        process.kill()
    wait_for(lambda: not any(map(runs, pids)), 20, what="the end of the server and its keeper")


def test_a_killed_server_restarts_with_its_data_and_address(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    try:
        client = redis.Redis.from_url(server.url)
        client.set("kept", "yes")
        first = state(tmp_path)["pid"]
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: state(tmp_path)["pid"] != first and answers(server.url), 20, what="a new server")
        assert client.get("kept") == b"yes"
    finally:
        server.leave()


def test_the_next_user_takes_over_a_server_without_keeper(tmp_path: Path) -> None:
    with user(tmp_path) as process:
        url = url_of(process)
        redis.Redis.from_url(url).set("kept", "yes")
        before = state(tmp_path)
        os.kill(before["keeper"], signal.SIGKILL)
        process.kill()
    wait_for(lambda: not runs(before["keeper"]), 5)
    assert runs(before["pid"]), "the orphaned server still runs"
    server = EmbeddedServer(tmp_path)
    try:
        assert redis.Redis.from_url(server.url).get("kept") == b"yes"
        assert state(tmp_path)["keeper"] != before["keeper"]
        wait_for(lambda: not runs(before["pid"]), 10, what="the end of the orphaned server")
    finally:
        server.leave()


@pytest.mark.long
def test_a_killed_keeper_and_server_are_replaced_for_users(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    try:
        client = redis.Redis.from_url(server.url)
        client.set("kept", "yes")
        before = state(tmp_path)
        for pid in (before["keeper"], before["pid"]):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: answers(server.url), 40, what="another server")
        assert client.get("kept") == b"yes"
        assert state(tmp_path)["keeper"] != before["keeper"]
    finally:
        server.leave()


def test_a_stale_state_after_a_power_cut_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    (folder / "state.json").write_text('{"pid": 1, "keeper": 1}')
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(folder / "valkey.sock"))
    server = EmbeddedServer(tmp_path)
    try:
        assert redis.Redis.from_url(server.url).ping()
    finally:
        server.leave()


def test_the_server_is_durable_portless_and_its_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis").chmod(0o755)
    server = EmbeddedServer(tmp_path)
    try:
        client = redis.Redis.from_url(server.url)
        settings: Any = client.config_get("append*")
        assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "always")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("port") == {"port": "0"}
        folder = tmp_path / "redis"
        assert folder.stat().st_mode & 0o077 == 0
        client.set("kept", "yes")
        assert folder.joinpath("valkey.sock").is_socket()
        assert [path.name for path in folder.rglob("*") if path.stat().st_mode & 0o077] == []
    finally:
        server.leave()


NAME = 'a [b] "quote"\n*?#%41é'


@pytest.mark.parametrize("name", [NAME, pytest.param("long" * 50, marks=pytest.mark.long)], ids=["signs", "long"])
def test_any_folder_name_works_and_the_keeper_has_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("ACME_KEY", "sk-private")
    server = EmbeddedServer(tmp_path / name)
    try:
        assert redis.Redis.from_url(server.url).ping()
        for pid in state(tmp_path / name).values():
            assert b"sk-private" not in Path(f"/proc/{pid}/environ").read_bytes()
    finally:
        server.leave()


@pytest.mark.long
def test_a_server_that_could_not_start_keeps_its_address(tmp_path: Path) -> None:
    """Its keeper can write no line of its log either, as on a full disk."""
    folder = tmp_path / "redis"
    folder.mkdir(mode=0o700)
    with Path("/dev/full").open("wb") as full, (folder / "users.lock").open("wb") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        keeper = subprocess.Popen(
            child_process.command("workers.embedded_keeper", str(folder)), cwd=ROOT, stdout=full, stderr=full
        )
        wait_for((folder / "state.json").exists, what="the keeper's server")
        server = EmbeddedServer(tmp_path)
    try:
        client = redis.Redis.from_url(server.url)
        client.set("kept", "yes")
        assert state(tmp_path)["keeper"] == keeper.pid
        (folder / "appendonlydir").rename(folder / "away")
        (folder / "appendonlydir").write_text("in its way")
        seen = {state(tmp_path)["pid"]}
        os.kill(min(seen), signal.SIGKILL)

        def tried() -> bool:
            with suppress(FileNotFoundError):  # between two starts
                seen.add(state(tmp_path)["pid"])
            return len(seen) > FIRST_STARTS + 2

        wait_for(tried, 60, what="more starts than a first start gets")
        (folder / "appendonlydir").unlink()
        (folder / "away").rename(folder / "appendonlydir")
        wait_for(lambda: answers(server.url), 20, what="the server")
        assert client.get("kept") == b"yes"
        assert keeper.poll() is None
    finally:
        server.leave()
        keeper.wait(30)


def test_a_failed_start_is_reported_in_the_servers_words(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "appendonlydir").write_text("in its way")
    with pytest.raises(ServerError, match=r"append.*valkey\.log.*did not start in 3 tries"):
        EmbeddedServer(tmp_path)


def test_an_unwritable_folder_is_reported() -> None:
    with pytest.raises(ServerError, match="/proc/overnight/redis cannot be written"):
        EmbeddedServer(Path("/proc/overnight"))
