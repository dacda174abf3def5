"""The application: every route, and what it opens when it starts and closes when it stops."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tasks.batches.store import open_store
from tasks.batches.uploads import Uploads
from tasks.jobs.runtime import Runtime
from tasks.server import batches, errors, files, health, live, live_call, models, page, telemetry
from tasks.server.clients import Clients
from tasks.server.errors import as_api_error
from tasks.server.requests import Requests
from tasks.server.resources import Resources
from tasks.server.sweeping import sweep
from workers.config.settings import Settings
from workers.models import tokens
from workers.pool.gc_tuning import collect_rarely

#: Seconds that a stopping server waits for settlements of ended calls. Later ones end with their leases.
SETTLING: Final = 5.0

#: Each resource's file adds its own routes.
ROUTES: list[Route] = [
    *page.ROUTES,
    *health.ROUTES,
    *live.ROUTES,
    *models.ROUTES,
    *files.ROUTES,
    *batches.ROUTES,
]


def application(settings: Settings) -> Starlette:
    """The application. `settings` must be those of the process. Raises SettingsError for a missing key."""
    clients = Clients(settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        for api in sorted({provider.api for provider in settings.providers.values()}):
            import_module(f"workers.providers.{api}")
        tokens.load_tokenizer()
        store = await asyncio.to_thread(open_store, settings)
        runtime = await Runtime.current()
        collect_rarely()
        app.state.resources = Resources(settings, clients, store, Uploads(store, settings.storage), runtime)
        sweeping = asyncio.create_task(sweep(app.state.resources))
        try:
            async with telemetry.observed(app.state.resources):
                yield
        finally:
            sweeping.cancel()
            await live_call.all_settled(SETTLING)
            await runtime.close()
            store.client.close()

    app = Starlette(
        routes=ROUTES,
        lifespan=lifespan,
        middleware=[Middleware(Requests, paths={route.endpoint: route.path for route in ROUTES})],
        exception_handlers={HTTPException: _http_error},
    )
    app.router.redirect_slashes = False  # a redirect would name this server, not the proxy in front of it
    return app


async def _http_error(_: Request, exc: Exception) -> Response:
    """The answer to an unknown path or method."""
    error = as_api_error(exc)
    assert error is not None
    return errors.response(error)
