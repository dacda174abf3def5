"""What a worker has loaded before its first job."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """
[providers.acme]
api = "{api}"
base_url = "https://127.0.0.1:1/v1"
api_key = "env:ACME_KEY"
"""


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_configured_wire_formats_load_before_the_first_job(tmp_path: Path, api: str) -> None:
    (tmp_path / "overnight.toml").write_text(CONFIG.format(api=api))
    script = (
        "import sys; import tasks.startup; from celery.signals import worker_init;"
        "before = 'aiohttp' in sys.modules; worker_init.send(sender=None);"
        "print(before, sorted(n for n in sys.modules if n in ('aiohttp', 'workers.providers.openai',"
        " 'workers.providers.anthropic')))"
    )
    environment = {**os.environ, "OVERNIGHT_CONFIG": str(tmp_path / "overnight.toml")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )
    assert done.stdout.strip() == f"False ['aiohttp', 'workers.providers.{api}']"


def test_sessions_open_before_the_first_job(tmp_path: Path) -> None:
    url = 'redis_url = "redis://127.0.0.1:1/0"\n'
    (tmp_path / "overnight.toml").write_text(url + CONFIG.format(api="openai"))
    script = """
import asyncio, logging
from unittest.mock import Mock
from celery.signals import worker_init, worker_ready
from tasks.jobs.runtime import Runtime
from workers.celery import app
from workers.pool.loop import EventLoop
import tasks.startup

logging.disable()
worker_init.send(sender=None)
place = EventLoop(app)
worker_ready.send(sender=Mock(pool=Mock(place=place)))

async def look():
    runtime = await Runtime.current()
    return [name for name, provider in runtime.providers.items() if provider._http._session is not None]

print(asyncio.run_coroutine_threadsafe(look(), place.loop).result())
place.end()
"""
    environment = {**os.environ, "OVERNIGHT_CONFIG": str(tmp_path / "overnight.toml"), "ACME_KEY": "sk-1"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )
    assert done.stdout.strip() == "['acme']"


def test_a_worker_does_not_load_flower() -> None:
    script = (
        "import sys; sys.argv = ['x', '--app', 'workers', 'worker', '--help']; from workers import celery_worker\n"
        "try: celery_worker.main()\n"
        "except SystemExit as end: print(end.code, [name for name in ('flower', 'tornado') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "--concurrency" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 []"
