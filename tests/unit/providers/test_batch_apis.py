"""Every Batch API against a simulated provider: each step, with its answer lost, and what is found afterwards."""

import time

import pytest

from tests.simulator import Simulator, expected_text
from tests.support.batch_apis import APIS, KEY, Connect, body, chunk, ended, results, sent
from workers.providers import batch_anthropic, batch_gemini, batch_mistral, batch_openai
from workers.providers.batch_api import BatchApi, ChunkFile, NoBatchApi, NotAllowed, NotListed, ProviderBatch
from workers.providers.errors import CallFailed, Interrupted, ProviderError, Refused, Throttled


@pytest.fixture
def simulator(simulator: Simulator) -> Simulator:
    simulator.configure(batch_delay=0.05)
    return simulator


#: Dialects of OpenAI's shape, which differ in a few paths and fields.
DIALECTS = ("together", "azure-dated")


@pytest.fixture(params=[pytest.param(each, marks=[pytest.mark.long] * (each in DIALECTS)) for each in APIS])
def api(request: pytest.FixtureRequest, connect: Connect) -> BatchApi:
    return connect(request.param)


def text_of(api: BatchApi, url: str, result: object) -> str:
    answer = api.answer(url, result).body  # type: ignore[arg-type]
    return str(answer["content"][0]["text"] if "content" in answer else answer["choices"][0]["message"]["content"])


def found_by_and_by(api: BatchApi, file_id: str, file: ChunkFile, since: float) -> ProviderBatch | None:
    """What `find` says once the list can be decided."""
    until = time.monotonic() + 10
    while True:
        try:
            return api.find(KEY, file_id, file, since)
        except NotListed:
            assert time.monotonic() < until
            time.sleep(0.02)


def test_lines_go_there_and_back_at_half_the_price(api: BatchApi, simulator: Simulator) -> None:
    file = chunk(api)
    batch = ended(api, sent(api, file))
    assert batch.phase == "ended"
    found = {each.custom_id: each for each in results(api, batch) if each is not None}
    assert sorted(found) == ["1", "2", "3", "4", "5", "6"]
    for name, each in found.items():
        assert text_of(api, file.url, each) == expected_text(body(int(name)))
        assert api.answer(file.url, each).usage is not None
    journal = [each for each in simulator.journal() if each["mode"] == "batch"]
    assert sorted(each["custom_id"].rpartition("-")[2] for each in journal) == sorted(found)
    assert all(each["cost_nusd"] == 500 * (each["input_tokens"] + 2 * each["output_tokens"]) for each in journal)


def test_a_lost_create_is_found_and_no_other_is(api: BatchApi, simulator: Simulator) -> None:
    sent(api, chunk(api, "chunk_other"))
    file, since = chunk(api, "chunk_mine"), time.time()
    file_id = api.upload(KEY, file)
    assert found_by_and_by(api, file_id, file, since) is None
    simulator.configure(batch_faults=[{"mode": "lost_create"}])
    with pytest.raises(Interrupted) as lost:
        api.create(KEY, file_id, file)
    assert lost.value.billed
    found = found_by_and_by(api, file_id, file, since)
    assert found is not None
    assert found.id == simulator.batches()[1]["id"]
    assert len(simulator.batches()) == 2
    assert found_by_and_by(api, "", chunk(api, "chunk_third"), since) is None


def test_a_create_that_never_arrived_is_not_found(api: BatchApi, simulator: Simulator) -> None:
    file, since = chunk(api), time.time()
    file_id = api.upload(KEY, file)
    simulator.configure(batch_faults=[{"mode": "error_create"}])
    with pytest.raises(CallFailed):
        api.create(KEY, file_id, file)
    assert api.find(KEY, file_id, file, since) is None
    assert ended(api, api.create(KEY, file_id, file)).phase == "ended"


def test_a_lost_upload_may_be_repeated(api: BatchApi, simulator: Simulator) -> None:
    simulator.configure(batch_faults=[{"mode": "lost_upload"}])
    file = chunk(api)
    if api.create_time:
        assert api.upload(KEY, file) == ""  # the lines go with the create
        return
    with pytest.raises(Interrupted):
        api.upload(KEY, file)
    assert ended(api, sent(api, file)).phase == "ended"
    assert len(simulator.batches()) == 1


@pytest.mark.parametrize("fault", ["lost_get", "busy_get", "error_get"])
def test_a_look_without_an_answer_says_nothing(api: BatchApi, simulator: Simulator, fault: str) -> None:
    batch = sent(api, chunk(api))
    simulator.configure(batch_faults=[{"mode": fault, "retry_after": 7}])
    with pytest.raises(ProviderError) as raised:
        api.get(KEY, batch.id)
    assert not isinstance(raised.value, Refused)
    if fault == "busy_get":
        assert isinstance(raised.value, Throttled)
        assert raised.value.retry_after == 7
    assert ended(api, batch).phase == "ended"


@pytest.mark.parametrize("fault", ["lost_list", "busy_list", "error_list"])
def test_a_list_without_an_answer_is_not_an_empty_list(api: BatchApi, simulator: Simulator, fault: str) -> None:
    simulator.configure(batch_faults=[{"mode": fault}])
    with pytest.raises(ProviderError):
        api.find(KEY, "", chunk(api), time.time())
    assert api.find(KEY, "", chunk(api), time.time()) is None


def test_a_cancel_whose_answer_is_lost_may_be_repeated(api: BatchApi, simulator: Simulator) -> None:
    simulator.configure(batch_delay=60.0, batch_faults=[{"mode": "lost_cancel"}])
    batch = sent(api, chunk(api))
    with pytest.raises(Interrupted):
        api.cancel(KEY, batch.id)
    batch = ended(api, api.cancel(KEY, batch.id))
    assert batch.phase == "ended"
    assert all(each is not None and each.status is None for each in results(api, batch))
    assert api.cancel(KEY, batch.id).phase == "ended", "cancelling one that has ended has no effect"
    assert simulator.stats()["cost_nusd"] == 0


@pytest.mark.parametrize("fault", ["lost_content", "half_content"])
def test_results_that_break_off_can_be_fetched_again(api: BatchApi, simulator: Simulator, fault: str) -> None:
    batch = ended(api, sent(api, chunk(api)))
    simulator.configure(batch_faults=[{"mode": fault}])
    with pytest.raises(ProviderError):
        list(results(api, batch))
    assert len(list(results(api, batch))) == 6


def test_a_file_that_is_gone_counts_as_deleted(api: BatchApi, simulator: Simulator) -> None:
    batch = ended(api, sent(api, chunk(api)))
    simulator.configure(batch_faults=[{"mode": "lost_delete"}])
    with pytest.raises(Interrupted):
        api.remove(KEY, batch.files[0])
    api.remove(KEY, batch.files[0])
    with pytest.raises(Refused):
        list(api.download(KEY, batch.files[0]))


def test_what_expires_has_a_billed_output(api: BatchApi, simulator: Simulator) -> None:
    simulator.configure(batch_faults=[{"mode": "expires"}])
    batch = ended(api, sent(api, chunk(api)))
    assert batch.phase == "ended"
    found = [each.status for each in results(api, batch) if each is not None]
    if isinstance(api, batch_gemini.GeminiBatches):
        assert (found, batch.files, simulator.stats()["cost_nusd"]) == ([], (), 0)
    else:
        assert (found.count(200), found.count(None)) == (3, 3)


@pytest.mark.parametrize(("fault", "status"), [("errors_4xx", 400), ("errors_429", 429), ("errors_5xx", 500)])
def test_a_line_fails_as_its_live_call_would(api: BatchApi, simulator: Simulator, fault: str, status: int) -> None:
    simulator.configure(batch_faults=[{"mode": fault}])
    file = chunk(api)
    batch = ended(api, sent(api, file))
    found = [each for each in results(api, batch) if each is not None and each.status != 200]
    assert [each.status for each in found] == [status] * 3
    kind = {400: Refused, 429: Throttled, 500: CallFailed}[status]
    for each in found:
        with pytest.raises(kind):
            api.answer(file.url, each)


def test_a_file_that_comes_late_is_waited_for(api: BatchApi, simulator: Simulator) -> None:
    simulator.configure(batch_faults=[{"mode": "late_file", "seconds": 0.4}])
    batch = sent(api, chunk(api))
    began = time.monotonic()
    batch = ended(api, batch)
    assert time.monotonic() - began >= 0.4
    assert len(list(results(api, batch))) == 6


def test_a_corrupt_line_is_reported_and_the_rest_is_read(api: BatchApi, simulator: Simulator) -> None:
    simulator.configure(batch_faults=[{"mode": "corrupt"}])
    batch = ended(api, sent(api, chunk(api)))
    found = list(results(api, batch))
    assert (found.count(None), len(found)) == (2, 6)


def test_one_that_never_ends_goes_on_running(api: BatchApi, simulator: Simulator) -> None:
    simulator.configure(batch_faults=[{"mode": "hang"}])
    batch = sent(api, chunk(api))
    assert api.cancel(KEY, batch.id).phase == "running"
    assert api.get(KEY, batch.id).phase == "running"


@pytest.mark.parametrize("step", ["list", "create"])
def test_a_key_without_the_right_and_a_server_without_the_api_differ(
    api: BatchApi, simulator: Simulator, step: str
) -> None:
    file = chunk(api)
    file_id = api.upload(KEY, file)
    for fault, kind in (("denied", NotAllowed), ("absent", NoBatchApi)):
        simulator.configure(batch_faults=[{"mode": f"{fault}_{step}"}] * 2)
        with pytest.raises(kind):
            api.check(KEY) if step == "list" else api.create(KEY, file_id, file)
    simulator.configure(batch_faults=[])
    api.check(KEY)
    assert simulator.batches() == []


def test_the_list_is_read_page_by_page(api: BatchApi, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (batch_openai, batch_mistral, batch_anthropic, batch_gemini):
        monkeypatch.setattr(module, "PAGE", 2)
    since = time.time()
    mine = chunk(api, "chunk_mine", 3)
    first = sent(api, mine)
    for number in range(4):
        sent(api, chunk(api, f"chunk_{number}", 2))
    found = found_by_and_by(api, "", mine, since) if not hasattr(api, "purpose") else None
    found = found or found_by_and_by(api, simulator.batches()[0]["input_file_id"], mine, since)
    assert found is not None
    assert found.id == first.id


def test_a_list_that_is_too_long_does_not_say_none(api: BatchApi, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (batch_openai, batch_mistral, batch_anthropic, batch_gemini):
        monkeypatch.setattr(module, "PAGE", 1)
        monkeypatch.setattr(module, "PAGES", 2)
    for number in range(3):
        sent(api, chunk(api, f"chunk_{number}", 1))
    if isinstance(api, batch_openai.OpenAIBatches) and api.purpose == "batch-api":
        assert api.find(KEY, "", chunk(api), time.time()) is None, "its list has no pages"
        return
    with pytest.raises(NotListed):
        api.find(KEY, "", chunk(api), time.time())


def test_a_stream_is_not_carried(api: BatchApi) -> None:
    assert api.encode("1", next(iter(api.urls)), body(1, stream=True)) is None
