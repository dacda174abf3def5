"""/healthz: whether the server can serve. It needs no key."""

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tasks.server.resources import resources


async def healthz(request: Request) -> Response:
    """200 if Redis answers; if not, requests.py answers 503."""
    await resources(request).runtime.client.ping()
    return Response(orjson.dumps({"status": "ok"}), media_type="application/json")


ROUTES = [Route("/healthz", healthz, methods=["GET"])]
