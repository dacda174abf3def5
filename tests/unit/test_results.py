"""A producer that waits for a result while its connection to Redis falls silent."""

import gc
import threading

import pytest
from celery import Celery

from tests.support.silent_proxy import SilentProxy
from tests.support.site import wait_for
from tests.support.valkey import own_valkey
from workers import result_backend
from workers.celery import Loader

TASK = "0d4a0a2e-6f0c-4cbb-9c5f-3a3d1d8b0f1e"


def producer(port: int) -> Celery:
    url = f"redis://127.0.0.1:{port}/0"
    made = Celery("producer", broker=url, backend=url, loader=Loader, set_as_current=False)
    made.conf.redis_socket_timeout = made.conf.redis_socket_connect_timeout = 1.0
    made.conf.redis_backend_health_check_interval = 0.2
    return made


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_result_comes_over_another_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_backend, "CHECK_EVERY", 0.3)
    with own_valkey() as server, SilentProxy(server.port) as proxy:
        waiting, worker = producer(proxy.port), producer(server.port)
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(waiting.AsyncResult(TASK).get(timeout=30)), daemon=True)
        thread.start()
        key = waiting.backend.get_key_for_task(TASK)
        wait_for(lambda: worker.backend.client.pubsub_numsub(key)[0][1], what="its subscription")
        proxy.silence()
        worker.backend.store_result(TASK, "an answer", "SUCCESS")
        thread.join(30)
        assert found == ["an answer"]
        waiting.backend.result_consumer.stop()
        for each in (waiting, worker):
            each.backend.client.connection_pool.disconnect()
            each.close()
    gc.collect()  # Celery leaves what it reconnects from to the garbage collector
