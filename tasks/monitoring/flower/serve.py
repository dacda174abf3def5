"""`overnight flower`: Flower's own start, step by step, with our pages, columns and metrics."""

import atexit
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

import flower.events
import prometheus_client
from flower import command, urls
from flower.options import options
from tornado.web import StaticFileHandler, url

from tasks.batches.store import open_store
from tasks.monitoring.flower import columns, guard
from tasks.monitoring.flower.application import GuardedFlower
from tasks.monitoring.flower.incoming import MOST_WORKERS, Receiver
from tasks.monitoring.flower.loader import STATIC, Loader
from tasks.monitoring.flower.pages import GuardedMetrics, Limits, NoAnswers, Queues, Workflows
from tasks.monitoring.flower.watch import Watch
from tasks.monitoring.metrics import Exporter
from workers import plain_text
from workers.config.settings import Settings


def extend(watch: Watch, token: str) -> None:
    """Put our pages before Flower's, once in a process: the first handler that matches an address serves it."""
    urls.settings["template_loader"] = Loader(urls.settings["template_path"])
    urls.handlers[0:0] = [
        url(r"/workflows", Workflows, {"watch": watch}, name="workflows"),
        url(r"/limits", Limits, {"watch": watch}, name="limits"),
        url(r"/broker", Queues, {"watch": watch}),
        url(r"/api/task/result/(.+)", NoAnswers),
        url(r"/metrics", GuardedMetrics, {"token": token}),
        url(r"/overnight/static/(.*)", StaticFileHandler, {"path": str(STATIC)}, name="overnight-static"),
    ]
    columns.install()


def listen(application: Any, watch: Watch) -> None:
    """Receive events of at most `MOST_WORKERS` workers, and check each one."""
    state = application.events.state
    state.event_callback = watch.event

    def forget_offline() -> None:
        gone = {name for name in list(state.counter) if name not in state.workers or not state.workers[name].alive}
        state.metrics.remove_workers(gone)
        for name in gone:
            state.counter.pop(name, None)
            state.workers.pop(name, None)

    def room(hostname: str) -> bool:
        if hostname in state.counter or len(state.counter) < MOST_WORKERS:
            return True
        application.io_loop.add_callback(forget_offline)
        return False

    Receiver.room = staticmethod(room)
    flower.events.EventReceiver = Receiver


def run(settings: Settings, arguments: Sequence[str], token: str = "") -> NoReturn:
    """Serve until stopped. `arguments` are Flower's own options. Raises guard.Open if they let anyone in."""
    from workers.celery import app  # noqa: PLC0415 - reads OVERNIGHT_CONFIG, which the command sets first

    command.apply_env_options()
    if options.tasks_columns == options._options["tasks-columns"].default:  # noqa: SLF001 - keep a choice of the user's
        options.tasks_columns = columns.SHOWN
    options.format_task = columns.readable
    command.apply_options("overnight flower", list(arguments))
    guard.check(options)
    command.extract_settings()
    command.setup_logging()
    plain_text.install(logging.getLogger())

    store = open_store(settings)
    watch = Watch(store, settings)
    extend(watch, token)
    prometheus_client.REGISTRY.register(Exporter(store, settings))
    application = GuardedFlower(capp=app, options=options, **urls.settings)
    listen(application, watch)
    atexit.register(application.stop)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = application.start_http_server()
    threading.Thread(target=watch.run, name="watch", daemon=True).start()
    command.print_banner(app, "ssl_options" in urls.settings, port)
    try:
        application.start()
    except (KeyboardInterrupt, SystemExit):
        pass
    finally:
        watch.stopping.set()
    sys.exit(0)
