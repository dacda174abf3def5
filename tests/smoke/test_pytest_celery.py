"""Our image as a worker under pytest-celery, with compose's Redis as its broker and backend.

A stock Celery producer, with neither our code nor our configuration, sends jobs and gets their results.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from pytest_celery import (
    CeleryBackendCluster,
    CeleryBrokerCluster,
    CeleryTestSetup,
    CeleryTestWorker,
    CeleryWorkerCluster,
    CeleryWorkerContainer,
    RedisContainer,
    RedisTestBackend,
    RedisTestBroker,
)
from pytest_docker_tools import container, fxtr

from tests.smoke.stack import IMAGE, ROOT
from tests.support.site import KEY, job

pytestmark = [pytest.mark.smoke, pytest.mark.timeout(300), pytest.mark.usefixtures("image", "provider")]

CONFIGURATION = """
redis_url = "env:OVERNIGHT_REDIS_URL"
data_dir = "/tmp/overnight"
[providers.acme]
api = "openai"
base_url = "http://provider:8080"
api_key = "env:ACME_KEY"
[providers.acme.models.small]
"""


class Redis(RedisContainer):
    """The compose file's server; pytest-celery's default image is another."""

    @classmethod
    def image(cls) -> str:
        return "redis:7-alpine"


class OvernightWorker(CeleryWorkerContainer):
    """A worker of our image: its code is in the image, and it follows every workflow's queue."""

    @classmethod
    def command(cls, *args: str, **options: Any) -> list[str]:
        del options
        return ["overnight", "worker", "--concurrency", "50", "--loglevel", "INFO", *args]

    @classmethod
    def worker_queue(cls) -> str:
        return "workflow.default"


@pytest.fixture
def default_redis_broker_cls() -> type[RedisContainer]:
    return Redis


@pytest.fixture
def celery_broker_cluster(celery_redis_broker: RedisTestBroker) -> Iterator[CeleryBrokerCluster]:
    cluster = CeleryBrokerCluster(celery_redis_broker)
    yield cluster
    cluster.teardown()


@pytest.fixture
def celery_backend_cluster(default_redis_broker: RedisContainer) -> Iterator[CeleryBackendCluster]:
    """The same server: Overnight keeps all its state in one."""
    cluster = CeleryBackendCluster(RedisTestBackend(default_redis_broker))
    yield cluster
    cluster.teardown()


@pytest.fixture
def files(exchange: Path) -> dict[str, dict[str, str]]:
    (exchange / "overnight.toml").write_text(CONFIGURATION)
    (exchange / "overnight.toml").chmod(0o644)
    return {str(exchange / "overnight.toml"): {"bind": "/etc/overnight/overnight.toml", "mode": "ro"}}


@pytest.fixture
def worker_environment(default_redis_broker: RedisContainer) -> dict[str, str]:
    return {"OVERNIGHT_REDIS_URL": default_redis_broker.celeryconfig["url"], "ACME_KEY": KEY}


@pytest.fixture
def provider_files() -> dict[str, dict[str, str]]:
    return {str(ROOT / "tests"): {"bind": "/simulator/tests", "mode": "ro"}}


provider = container(
    image=IMAGE,
    command=["python", "-m", "tests.simulator", "--host", "0.0.0.0", "--port", "8080"],
    environment={"PYTHONPATH": "/simulator"},
    volumes=fxtr("provider_files"),
    network="{default_pytest_celery_network.name}",
    hostname="provider",
    name="provider",
)

default_worker_container = container(
    image=IMAGE,
    command=fxtr("default_worker_command"),
    environment=fxtr("worker_environment"),
    volumes=fxtr("files"),
    network="{default_pytest_celery_network.name}",
    wrapper_class=OvernightWorker,
    timeout=60,
)


@pytest.fixture
def default_worker_container_cls() -> type[CeleryWorkerContainer]:
    return OvernightWorker


@pytest.fixture
def celery_worker_cluster(
    default_worker_container: OvernightWorker, celery_setup_app: Celery
) -> Iterator[CeleryWorkerCluster]:
    cluster = CeleryWorkerCluster(CeleryTestWorker(default_worker_container, celery_setup_app))
    yield cluster
    cluster.teardown()


def test_a_stock_producer_gets_its_results(celery_setup: CeleryTestSetup) -> None:
    app = celery_setup.app
    assert app is not None
    sent = [
        app.send_task("overnight.job", kwargs={"job": job(number)}, queue=f"workflow.smoke-{number % 2}")
        for number in range(20)
    ]
    lines = [result.get(timeout=60) for result in sent]
    assert [line["custom_id"] for line in lines] == [f"job-{number}" for number in range(20)]
    assert {line["response"]["status_code"] for line in lines} == {200}


def test_the_worker_answers_remote_control_and_says_no_secret(celery_setup: CeleryTestSetup) -> None:
    app, worker = celery_setup.app, celery_setup.worker
    assert app is not None
    assert worker is not None
    [answer] = app.control.ping(timeout=10)
    assert list(answer.values()) == [{"ok": "pong"}]
    assert KEY not in worker.container.logs()
