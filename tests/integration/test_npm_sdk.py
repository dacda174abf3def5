"""OpenAI's SDK for node, as npm installs it, against the HTTP server (openai_sdk.mjs)."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulator import Simulator
from tests.support.api import ONE, SCARCE, TWO, Api, api_fixture
from tests.support.site import Site
from tests.support.toml import PRICES

SCRIPT = Path(__file__).with_name("openai_sdk.mjs")


@pytest.fixture
def site(tmp_path: Path, simulator: Simulator) -> Iterator[Site]:
    with Site(tmp_path, simulator, model=PRICES, tables=SCARCE) as made:
        made.start_worker(ready=False)
        yield made


api = api_fixture(scope="function")


@pytest.mark.long
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs node and npm")
def test_the_sdk_of_node_submits_batches_makes_calls_and_knows_the_errors(api: Api, site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    script = shutil.copy(SCRIPT, folder)
    packages = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), "openai@7"]
    subprocess.run(packages, check=True, timeout=120)
    environment = {
        **os.environ,
        "API_URL": api.url,
        "API_KEY": ONE,
        "OTHER_KEY": TWO,
        "REDIS_PID": str(site.redis_pid()),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    done = subprocess.run(["node", script], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
