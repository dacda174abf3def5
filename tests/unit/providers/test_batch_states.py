"""Tables: what states, objects and error words of each Batch API mean."""

from typing import Any

import orjson
import pytest

from workers.config.provider_settings import ProviderSettings
from workers.providers.batch_anthropic import AnthropicBatches
from workers.providers.batch_api import ProviderBatch
from workers.providers.batch_apis import batch_api
from workers.providers.batch_gemini import GeminiBatches
from workers.providers.batch_kinds import kind_of
from workers.providers.batch_mistral import MistralBatches
from workers.providers.batch_openai import OpenAIBatches, enqueued_limit, read_result
from workers.providers.batch_together import TogetherBatches
from workers.providers.errors import CallFailed

BASE = "https://api.example.com/v1"


def openai(**fields: Any) -> ProviderBatch:
    return OpenAIBatches("acme", BASE, 10.0).shown({"id": "batch_1", "status": "in_progress", **fields})


@pytest.mark.parametrize(
    ("fields", "phase", "files"),
    [
        ({"status": "validating"}, "running", ()),
        ({"status": "finalizing", "output_file_id": "f"}, "running", ("f",)),
        ({"status": "something_new"}, "running", ()),
        ({"status": "completed", "output_file_id": "f", "error_file_id": ""}, "ended", ("f",)),
        ({"status": "completed", "output_file_id": None, "request_counts": {"completed": 3}}, "running", ()),
        (
            {"status": "completed", "error_file_id": "e", "request_counts": {"completed": 0, "failed": 3}},
            "ended",
            ("e",),
        ),
        ({"status": "completed", "error_file_id": "e", "request_counts": {"completed": 2}}, "running", ("e",)),
        ({"status": "completed", "request_counts": {"completed": None, "failed": None}}, "running", ()),
        (
            {"status": "completed", "output_file_id": "f", "request_counts": {"completed": None}},
            "ended",
            ("f",),
        ),
        (
            {"status": "expired", "output_file_id": "f", "error_file_id": "e", "request_counts": {"completed": 1}},
            "ended",
            ("f", "e"),
        ),
        ({"status": "cancelling"}, "running", ()),
        ({"status": "cancelled"}, "ended", ()),
        ({"status": "COMPLETED", "output_file_id": "f"}, "ended", ("f",)),
    ],
)
def test_openais_states(fields: dict[str, Any], phase: str, files: tuple[str, ...]) -> None:
    found = openai(**fields)
    assert (found.phase, found.files) == (phase, files)


@pytest.mark.parametrize(
    ("code", "message", "limit", "for_now"),
    [
        (
            "token_limit_exceeded",
            (
                "Enqueued token limit reached for gpt-4o in organization org-1. Limit: 90,000 enqueued tokens. Please"
                " try again once some in_progress batches have been completed."
            ),
            90_000,
            True,
        ),
        (
            "token_limit_exceeded",
            "The number of enqueued tokens has surpassed the configured limit of 30K for the deployment 'd'.",
            30_000,
            True,
        ),
        ("token_limit_exceeded", "", 0, True),
        ("something", "Enqueued token limit reached. Limit: 1.5M enqueued tokens.", 1_500_000, True),
        ("invalid_json_line", "This line is not parseable as valid JSON.", None, False),
        ("empty_file", "", None, False),
        ("server_error", "", None, True),
    ],
)
def test_why_a_whole_batch_failed(code: str, message: str, limit: int | None, *, for_now: bool) -> None:
    found = openai(status="failed", errors={"object": "list", "data": [{"code": code, "message": message}]})
    assert (found.phase, found.code, found.enqueued_limit, found.for_now) == ("failed", code, limit, for_now)


@pytest.mark.parametrize("errors", [None, {}, {"data": None}, {"data": []}, {"data": ["x"]}, "x"])
def test_a_failure_without_words_is_a_failure(errors: Any) -> None:
    found = openai(status="failed", errors=errors)
    assert (found.phase, found.code, found.for_now) == ("failed", "failed", False)


def test_a_limit_without_digits_is_unknown() -> None:
    assert enqueued_limit("Limit: ,,. enqueued tokens") == 0


@pytest.mark.parametrize(
    "fields",
    [{"id": "../files/secret"}, {"id": ""}, {"id": 5}, {"status": None}, {"output_file_id": "a b"}, {"id": "a?b"}],
)
def test_an_object_without_a_usable_id_or_state_is_no_answer(fields: dict[str, Any]) -> None:
    with pytest.raises(CallFailed) as raised:
        openai(**fields)
    assert raised.value.billed, "a create that answers so may have been made"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ({"custom_id": "1", "response": {"status_code": 200, "body": {}}, "error": None}, 200),
        ({"custom_id": "1", "response": {"status_code": 400, "body": {"error": {}}}, "error": None}, 400),
        ({"custom_id": "1", "response": None, "error": {"code": "batch_expired", "message": "not run"}}, None),
        ({"custom_id": "1", "response": {"status_code": 0}}, None),
        ({"custom_id": "1"}, None),
    ],
)
def test_a_line_of_openais_results(line: dict[str, Any], status: int | None) -> None:
    found = read_result(orjson.dumps(line))
    assert found is not None
    assert (found.custom_id, found.status) == ("1", status)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"{}", b'{"custom_id":5}', b"\xff"])
def test_a_line_that_cannot_be_read(line: bytes) -> None:
    apis = [OpenAIBatches("a", BASE, 1.0), AnthropicBatches("a", BASE, 1.0), GeminiBatches("a", BASE, 1.0)]
    assert [api.read(line) for api in apis] == [None, None, None]


def test_togethers_job_is_unwrapped() -> None:
    value = {"job": {"id": "j", "status": "EXPIRED", "output_file_id": "f", "error_file_id": ""}}
    found = TogetherBatches("acme", BASE, 10.0).shown(value)
    assert (found.id, found.phase, found.files) == ("j", "ended", ("f",))


@pytest.mark.parametrize(
    ("fields", "phase"),
    [
        ({"status": "QUEUED"}, "running"),
        ({"status": "SUCCESS", "output_file": "f"}, "ended"),
        ({"status": "SUCCESS", "succeeded_requests": 3}, "running"),
        ({"status": "TIMEOUT_EXCEEDED", "output_file": "f"}, "ended"),
        ({"status": "FAILED", "errors": [{"message": "bad", "count": 1}]}, "failed"),
        ({"status": "FAILED", "output_file": "f"}, "ended"),
        ({"status": "CANCELLATION_REQUESTED"}, "running"),
        ({"status": "CANCELLED"}, "ended"),
    ],
)
def test_mistrals_states(fields: dict[str, Any], phase: str) -> None:
    assert MistralBatches("acme", BASE, 10.0).shown({"id": "j", **fields}).phase == phase


@pytest.mark.parametrize(
    ("state", "more", "phase", "files"),
    [
        ("BATCH_STATE_PENDING", {}, "running", ()),
        ("JOB_STATE_RUNNING", {}, "running", ()),
        ("BATCH_STATE_SUCCEEDED", {"response": {"responsesFile": "files/r"}}, "ended", ("files/r",)),
        ("JOB_STATE_SUCCEEDED", {"response": {"responsesFile": "files/r"}}, "ended", ("files/r",)),
        ("BATCH_STATE_SUCCEEDED", {}, "running", ()),
        ("BATCH_STATE_FAILED", {"error": {"message": "bad"}}, "failed", ()),
        ("BATCH_STATE_EXPIRED", {}, "ended", ()),
        ("BATCH_STATE_CANCELLED", {}, "ended", ()),
        ("", {}, "running", ()),
    ],
)
def test_geminis_states(state: str, more: dict[str, Any], phase: str, files: tuple[str, ...]) -> None:
    api = GeminiBatches("acme", "https://generativelanguage.googleapis.com/v1beta/openai", 10.0)
    found = api._shown({"name": "batches/1", "metadata": {"state": state}, **more})
    assert (found.phase, found.files) == (phase, files)


@pytest.mark.parametrize(
    ("fields", "phase"),
    [
        ({"processing_status": "in_progress"}, "running"),
        ({"processing_status": "canceling"}, "running"),
        ({"processing_status": "ended", "results_url": None}, "running"),
        ({"processing_status": "ended", "results_url": "https://x/r"}, "ended"),
        ({"processing_status": "ended", "results_url": None, "archived_at": "2026-01-01T00:00:00Z"}, "ended"),
    ],
)
def test_anthropics_states(fields: dict[str, Any], phase: str) -> None:
    found = AnthropicBatches("acme", BASE, 10.0)._shown({"id": "b", **fields})
    assert (found.phase, bool(found.files)) == (phase, phase == "ended")


@pytest.mark.parametrize(
    ("kind", "status"),
    [("invalid_request_error", 400), ("rate_limit_error", 429), ("overloaded_error", 529), ("api_error", 500)],
)
def test_a_failed_line_of_anthropic(kind: str, status: int) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "no"}, "request_id": "r"}
    line = {"custom_id": "chunk_1-7", "result": {"type": "errored", "error": error}}
    found = AnthropicBatches("acme", BASE, 10.0).read(orjson.dumps(line))
    assert found is not None
    assert (found.custom_id, found.status) == ("7", status)


@pytest.mark.parametrize(
    ("api", "address", "kind"),
    [
        ("openai", "https://api.openai.com/v1", "openai"),
        ("openai", "http://localhost:8000/v1", "openai"),
        ("openai", "https://api.groq.com/openai/v1", "groq"),
        ("openai", "https://api.together.xyz/v1", "together"),
        ("openai", "https://api.mistral.ai/v1", "mistral"),
        ("openai", "https://notmistral.ai/v1", "openai"),
        ("openai", "https://generativelanguage.googleapis.com/v1beta/openai", "gemini"),
        ("openai", "https://api.x.ai/v1", ""),
        ("openai", "https://openrouter.ai/api/v1", ""),
        ("openai", "https://europe-west1-aiplatform.googleapis.com/v1/x/openapi", ""),
        ("azure", "https://acme.openai.azure.com", "azure"),
        ("anthropic", "https://api.anthropic.com", "anthropic"),
    ],
)
def test_which_batch_api_a_provider_has(api: str, address: str, kind: str) -> None:
    assert kind_of(api, address) == kind
    found = batch_api("acme", ProviderSettings.model_validate({"api": api, "base_url": address}))
    assert (found is not None) == bool(kind)
