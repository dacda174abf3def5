"""Random requests to the HTTP server: it refuses what is wrong in OpenAI's words, and never fails itself."""

from typing import Any, Final

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.api import CLIENTS, ONE, Api, answers, api_fixture, jsonl
from tests.support.fixtures import site_fixture
from tests.support.site import jobs
from workers.providers.endpoints import CHAT, EMBEDDINGS, MESSAGES, RESPONSES

LIVE: Final = (CHAT, RESPONSES, EMBEDDINGS, MESSAGES)

#: What the server may answer: it never fails itself, and its provider is up.
EXPECTED: Final = {200, 400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 429}


site = site_fixture(tables=CLIENTS)
api = api_fixture()


# Values: mostly of the wrong kind, now and then what the field takes

_words = st.text(max_size=30) | st.sampled_from(["batch", "24h", "-1h", "acme/small", "small", CHAT, "user", "nightly"])
_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _words
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_words, inner, max_size=4), max_leaves=12
)
_message = st.fixed_dictionaries({"role": st.just("user"), "content": _words}) | _values
_ids = (
    st.sampled_from(["file-0123456789abcdef", "batch_0123456789abcdef", "..", "%00", "%2e%2e%2f", "a" * 5_000]) | _words
)

_FIELDS: Final[dict[str, Any]] = {
    "model": st.just("acme/small") | _values,
    "messages": st.lists(_message, max_size=3) | _values,
    "input": _words | _values,
    "max_tokens": st.integers(1, 50) | _values,
    "stream": st.booleans() | _values,
    "metadata": st.dictionaries(_words, _values, max_size=20) | _values,
    "input_file_id": _ids,
    "endpoint": st.sampled_from(LIVE) | _values,
    "completion_window": st.sampled_from(["24h", "1h", "0h", "9" * 30 + "d"]) | _values,
    "output_expires_after": st.fixed_dictionaries({"anchor": _words, "seconds": st.integers()}) | _values,
    "response_format": _values,
    "tools": _values,
    "temperature": _values,
}


@st.composite
def _bodies(draw: st.DrawFn) -> Any:
    names = draw(st.sets(st.sampled_from(sorted(_FIELDS)), min_size=1))
    return {name: draw(_FIELDS[name]) for name in sorted(names)} | draw(st.dictionaries(_words, _values, max_size=2))


@st.composite
def _paths(draw: st.DrawFn) -> str:
    form = draw(
        st.sampled_from(
            [
                *LIVE,
                "/v1/files",
                "/v1/files/{}",
                "/v1/files/{}/content",
                "/v1/batches",
                "/v1/batches/{}",
                "/v1/batches/{}/cancel",
                "/v1/models",
                "/v1/models/{}",
                "/{}",
            ]
        )
    )
    return form.format(httpx.URL("http://h/", params={"": draw(_ids)}).query.decode()[1:]) if "{}" in form else form


@st.composite
def _forms(draw: st.DrawFn) -> dict[str, Any]:
    """An upload, mostly a broken one."""
    file = draw(st.binary(max_size=300) | st.just(jsonl(jobs(2))))
    purpose = draw(st.just("batch") | _words)
    return {"data": {"purpose": purpose, draw(_words): draw(_words)}, "files": {draw(st.just("file") | _words): file}}


_queries = st.dictionaries(st.sampled_from(["limit", "after", "order", "purpose", "x"]), _words, max_size=3)
_HEADERS = ["X-Overnight-Max-Wait", "X-Overnight-Workflow", "Idempotency-Key", "Content-Type", "Range", "traceparent"]
_IN_HEADERS = ["0.5", "-1", "nan", "nightly", "secret", "a" * 3_000, "bytes=5-", "text/plain", "multipart/form-data"]
_headers = st.dictionaries(st.sampled_from(_HEADERS), st.sampled_from(_IN_HEADERS), max_size=2)
_methods = st.sampled_from(["GET", "POST", "DELETE", "PUT", "HEAD"])
_contents = (
    st.builds(lambda body: {"json": body}, _bodies())
    | st.builds(lambda data: {"content": data}, st.binary(max_size=300))
    | _forms()
    | st.just({})
)


def _fuzz(api: Api, examples: int, *, repeat: bool = False) -> None:
    """Send random requests; the same ones in each run if `repeat`."""
    with api.http(ONE) as client:
        client.base_url = api.url.removesuffix("/v1")

        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=repeat,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.sampled_from(["GET", "POST", "DELETE", "PUT", "HEAD"]), _paths(), _queries, _headers, _contents)
        def send(
            method: str, path: str, query: dict[str, str], headers: dict[str, str], content: dict[str, Any]
        ) -> None:
            answer = client.request(method, path, params=query, headers=headers, **content)
            assert answer.status_code in EXPECTED, f"{method} {path}: {answer.status_code} {answer.text[:300]}"
            if answer.is_error and method != "HEAD":
                assert answer.json()["error"]["message"], f"{method} {path}: an error without words"

        send()
    assert "Traceback" not in api.log()
    assert answers(api)


def test_hundreds_of_random_requests_make_no_server_error(api: Api) -> None:
    _fuzz(api, 300, repeat=True)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_ten_thousand_random_requests_make_no_server_error(api: Api) -> None:
    _fuzz(api, 10_000)
