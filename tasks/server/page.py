"""`/`: what this is and how to point an SDK at it, in ten lines; `/openapi.json`: the same for programs."""

import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tasks.server.openapi import DOCUMENT

PAGE = """Overnight: batches and live calls of LLMs, inside rate limits and budgets, at OpenAI's API.

    from openai import OpenAI
    client = OpenAI(base_url="{base}/v1", api_key="...")  # a key of [clients] in overnight.toml

    file = client.files.create(file=open("in.jsonl", "rb"), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="8h"
    )
    client.batches.retrieve(batch.id).status  # then client.files.content(batch.output_file_id)

Endpoints: {base}/openapi.json
"""


async def page(request: Request) -> Response:
    """The page. Behind a proxy, its addresses have the scheme of X-Forwarded-Proto."""
    scheme = request.headers.get("x-forwarded-proto", "")
    base = request.base_url.replace(scheme=scheme) if scheme in {"http", "https"} else request.base_url
    return PlainTextResponse(PAGE.format(base=str(base).rstrip("/")))


async def openapi(_: Request) -> Response:
    """The OpenAPI document."""
    return Response(orjson.dumps(DOCUMENT), media_type="application/json")


ROUTES = [Route("/", page, methods=["GET"]), Route("/openapi.json", openapi, methods=["GET"])]
