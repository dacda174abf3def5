"""What the routes work with: settings, clients, Redis and the runtime of live calls. One for each process."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from tasks.batches.store import Store
from tasks.batches.uploads import Uploads
from tasks.jobs.runtime import Runtime
from tasks.server.clients import Client, Clients
from workers.config.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resources:
    """Shared by all requests. The methods of the store and the uploads block: call them through `blocking`."""

    settings: Settings
    clients: Clients
    store: Store
    uploads: Uploads
    runtime: Runtime


def resources(request: Request) -> Resources:
    """The resources of the request's application."""
    found: Resources = request.app.state.resources
    return found


def client_of(request: Request) -> Client:
    """The client that sends the request."""
    found: Client = request.scope["overnight.client"]
    return found


async def blocking(act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `act` in a thread, so that other requests go on."""
    return await run_in_threadpool(act, *args, **kwargs)
