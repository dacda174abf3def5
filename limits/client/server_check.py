"""Whether the server can be used: it must be new enough, and must not forget anything on its own."""

from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    NoPermissionError,
    ResponseError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from limits.client.replies import as_limits_error
from limits.errors import ServerUnsuitable

if TYPE_CHECKING:
    import redis

_OLDEST: Final = {"redis": 7, "valkey": 8}
"""The oldest major version that Overnight runs on."""


class ClusterMode(ServerUnsuitable):
    """Overnight does not work in cluster mode: each step needs several keys on one server."""


def check_server(client: "redis.Redis") -> None:
    """Raise ServerUnsuitable unless the server is Redis >= 7 or Valkey >= 8, holds all keys and never evicts any.

    ServerUnavailable if it does not answer, or refuses for now.
    """
    try:
        info: dict[str, Any] = client.info()
    except NoPermissionError as error:
        raise ServerUnsuitable(
            "The Redis user may not run INFO, so the server's version and eviction policy cannot be checked.",
            next_step="Grant it +info.",
        ) from error
    except (RedisConnectionError, RedisTimeoutError, ResponseError) as error:
        raise as_limits_error(error, "INFO") from error
    name = "valkey" if info.get("server_name") == "valkey" else "redis"
    version = str(info.get("valkey_version" if name == "valkey" else "redis_version", "0"))
    if int(version.partition(".")[0]) < _OLDEST[name]:
        raise ServerUnsuitable(f"{name} {version} is too old: Overnight needs Redis 7 or Valkey 8.")
    if int(info.get("cluster_enabled", 0)):
        raise ClusterMode(
            f"{name} runs in cluster mode, in which queues and batches could lie on different servers.",
            next_step="Use a server without cluster mode (`cluster-enabled no`), or a managed one with one shard and "
            "cluster mode disabled.",
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise ServerUnsuitable(
            f"maxmemory-policy is {policy}: short of memory, the server would forget what was spent.",
            next_step="Set `maxmemory-policy noeviction`.",
        )
