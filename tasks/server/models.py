"""/v1/models: every model that a client can name, in a form that OpenAI's and Anthropic's SDKs both read."""

from collections.abc import Iterator
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tasks.server.errors import not_found
from tasks.server.resources import resources
from workers.config.settings import Settings, UnknownModel

#: The models' age is not known.
_CREATED: Final = {"created": 0, "created_at": "1970-01-01T00:00:00Z"}


def listed(settings: Settings) -> Iterator[tuple[str, str]]:
    """Each name with its owner: those under [models], then `provider/model` of each listed model, then its own name."""
    for name in settings.models:
        yield name, "overnight"
    for provider, table in settings.providers.items():
        for model in table.models:
            yield f"{provider}/{model}", provider
    for model in sorted({model for table in settings.providers.values() for model in table.models}):
        owners = [provider for provider, table in settings.providers.items() if model in table.models]
        if model not in settings.models and len(owners) == 1:
            yield model, owners[0]


def _model(name: str, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "owned_by": owner, "type": "model", "display_name": name, **_CREATED}


async def list_models(request: Request) -> Response:
    """GET /v1/models."""
    data = [_model(*each) for each in listed(resources(request).settings)]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return JSONResponse({"object": "list", "data": data, "has_more": False, "first_id": first, "last_id": last})


async def retrieve_model(request: Request) -> Response:
    """GET /v1/models/{model}."""
    settings, name = resources(request).settings, request.path_params["model"]
    try:
        targets = settings.find_model(name)
    except UnknownModel:
        raise not_found(f"The model '{name}' does not exist.", "model", "model_not_found") from None
    return JSONResponse(_model(name, "overnight" if name in settings.models else targets[0][0]))


ROUTES: Final = [
    Route("/v1/models", list_models, methods=["GET"]),
    Route("/v1/models/{model:path}", retrieve_model, methods=["GET"]),
]
