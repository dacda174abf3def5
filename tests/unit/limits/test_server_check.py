"""Which servers can be used, and what an operator reads about one that cannot."""

import contextlib

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from limits.client.connection import Server
from limits.client.server_check import ClusterMode, check_server
from limits.errors import NotPermitted, ServerUnavailable, ServerUnsuitable
from tests.support.valkey import own_valkey
from tests.unit.limits.calls import ask


def test_the_embedded_server_suits(client: "redis.Redis") -> None:
    check_server(client)


def test_no_server_listens() -> None:
    with pytest.raises(ServerUnavailable):
        check_server(redis.Redis(port=1, retry=Retry(NoBackoff(), 0)))


def test_a_server_that_evicts_is_refused() -> None:
    with own_valkey(maxmemory="50mb") as server:
        client = redis.Redis(port=server.port)
        client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(ServerUnsuitable, match="allkeys-lru") as caught:
            check_server(client)
        assert "noeviction" in caught.value.next_step
        client.close()


def test_a_cluster_is_refused() -> None:
    with own_valkey(**{"cluster-enabled": "yes"}) as server:
        client = redis.Redis(port=server.port)
        with pytest.raises(ClusterMode, match="valkey runs in cluster mode") as caught:
            check_server(client)
        assert "cluster-enabled no" in caught.value.next_step
        client.close()


class Told:
    """A client whose server reports this about itself, because we have no such old server."""

    def __init__(self, **info: str) -> None:
        self.told = info

    def info(self) -> dict[str, str]:
        return {"maxmemory_policy": "noeviction"} | self.told


@pytest.mark.parametrize(
    ("info", "suits"),
    [
        ({"redis_version": "6.2.14"}, False),
        ({"redis_version": "7.0.0"}, True),
        ({"redis_version": "8.2.1"}, True),
        ({"server_name": "valkey", "valkey_version": "7.2.5", "redis_version": "7.2.4"}, False),
        ({"server_name": "valkey", "valkey_version": "8.0.1", "redis_version": "7.2.4"}, True),
    ],
)
def test_versions(info: dict[str, str], suits: bool) -> None:
    with contextlib.nullcontext() if suits else pytest.raises(ServerUnsuitable, match="too old"):
        check_server(Told(**info))  # type: ignore[arg-type]


def test_a_user_without_rights_learns_what_it_needs() -> None:
    with own_valkey() as server:
        admin = redis.Redis(port=server.port)
        admin.acl_setuser("limited", enabled=True, nopass=True, keys=["other:*"], categories=["+@all", "-@dangerous"])
        limited = redis.Redis(port=server.port, username="limited", password="x")
        with pytest.raises(ServerUnsuitable, match="INFO") as caught:
            check_server(limited)
        assert "+info" in caught.value.next_step
        with pytest.raises(NotPermitted) as refused:
            Server(limited).run(ask("a"))
        assert "~{namespace}:*" in refused.value.next_step
        limited.close()
        admin.close()
