"""`overnight flower`: Flower's own start, step by step, with our pages, columns and metrics in it."""

import atexit
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

import prometheus_client
from flower import command, urls
from flower.app import Flower
from flower.options import options
from tornado.web import StaticFileHandler, url

from tasks.flower import columns, guard
from tasks.flower.loader import STATIC, Loader
from tasks.flower.pages import GuardedMetrics, Limits, Queues, Workflows
from tasks.flower.watch import Watch
from tasks.metrics import Exporter
from tasks.store import open_store
from workers.settings import Settings


def extend(watch: Watch, token: str) -> None:
    """Put our pages before Flower's, once a process: the first that matches an address serves it."""
    urls.settings["template_loader"] = Loader(urls.settings["template_path"])
    urls.handlers[0:0] = [
        url(r"/workflows", Workflows, {"watch": watch}, name="workflows"),
        url(r"/limits", Limits, {"watch": watch}, name="limits"),
        url(r"/broker", Queues, {"watch": watch}),
        url(r"/metrics", GuardedMetrics, {"token": token}),
        url(r"/overnight/static/(.*)", StaticFileHandler, {"path": str(STATIC)}, name="overnight-static"),
    ]
    columns.install()


def run(settings: Settings, arguments: Sequence[str], token: str = "") -> NoReturn:
    """Serve until told to stop. `arguments` are Flower's own options; guard.Open where they leave the door open."""
    from workers.celery import app  # noqa: PLC0415 - the configuration must have been named before

    command.apply_env_options()
    if options.tasks_columns == options._options["tasks-columns"].default:  # noqa: SLF001 - what the person chose wins
        options.tasks_columns = columns.SHOWN
    options.format_task = columns.readable
    command.apply_options("overnight flower", list(arguments))
    guard.check(options)
    command.extract_settings()
    command.setup_logging()

    store = open_store(settings)
    watch = Watch(store, settings)
    extend(watch, token)
    prometheus_client.REGISTRY.register(Exporter(store, settings))
    flower: Any = Flower(capp=app, options=options, **urls.settings)
    flower.events.state.event_callback = watch.event
    atexit.register(flower.stop)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = flower.start_http_server()
    threading.Thread(target=watch.run, name="watch", daemon=True).start()
    command.print_banner(app, "ssl_options" in urls.settings, port)
    try:
        flower.start()
    except (KeyboardInterrupt, SystemExit):
        pass
    finally:
        watch.stopping.set()
    sys.exit(0)
