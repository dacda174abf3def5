"""A Docker engine, our image, and the compose file's services.

Without an engine these tests are skipped; with REQUIRE_DOCKER=1 that is an error, so that no skip is taken for a pass.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_docker_tools.wrappers import container

from tests.smoke.stack import IMAGE, Stack, docker

# Where /.dockerenv exists, pytest-docker-tools looks for its containers in a network that it takes itself to be in.
container.tests_inside_container = lambda: False


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Docker answers, and has compose."""
    wanting = None
    if shutil.which("docker") is None:
        wanting = "there is no docker command here"
    elif (found := subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)).returncode:
        wanting = f"no Docker engine answers: {found.stderr.strip()[-200:]}"
    elif subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        wanting = "docker has no compose"
    if wanting and os.environ.get("REQUIRE_DOCKER") == "1":
        pytest.fail(f"REQUIRE_DOCKER=1, and {wanting}", pytrace=False)
    if wanting:
        pytest.skip(wanting)


@pytest.fixture(scope="session")
def image() -> str:
    """Our image, built from these files."""
    docker("compose", "build", "--quiet", "worker", env={"REDIS_PASSWORD": "x", "FLOWER_PASSWORD": "x"}, seconds=900)
    return IMAGE


@pytest.fixture
def exchange() -> Iterator[Path]:
    """A folder that containers may read, whichever user they run as."""
    folder = Path(tempfile.mkdtemp(prefix="overnight-smoke-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def stack(exchange: Path) -> Iterator[Stack]:
    """The compose file's services beside a provider, removed with all their data when the test ends."""
    made = Stack(exchange)
    yield made
    made.down()
