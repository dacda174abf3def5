"""Lines that are refused before anything is queued."""

from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from tasks.batches.precheck import Precheck
from tasks.jobs.job import Line
from tasks.jobs.pricing import queries
from workers.config.settings import load
from workers.models.prices import Rates, flat
from workers.models.routing import NoPrice, NoRoute
from workers.models.tiers import ASKED

CONFIG = """
[providers.one]
api = "openai"
api_key = "env:K"
[providers.one.models.small]
tpm = 1000
[providers.one.models.large]
tpm = 100_000
[providers.one.models.priced]
input_usd_per_mtok = 1.0
output_usd_per_mtok = 1.0
[providers.here]
api = "openai"
base_url = "http://127.0.0.1:8080/v1"
[providers.here.models.local]
[models.mix]
targets = [{ provider = "one", model = "small" }, { provider = "one", model = "large" }]
[workflows.poor]
budget_usd = 0.001
[workflows.thrifty]
budget_usd = 0.001
when_exhausted = "fallback"
fallback = "priced"
"""


class Table:
    """A price table that records the targets it is asked for."""

    def __init__(self, **known: Rates) -> None:
        self.known = {name.replace("_", "/"): rates for name, rates in known.items()}
        self.asked: list[set[str]] = []

    def __call__(self, targets: Collection[str]) -> Mapping[str, Rates]:
        self.asked.append(set(targets))
        return self.known


def precheck(folder: Path, workflow: str, table: Table | None = None, *, more: str = "") -> Precheck:
    file = folder / "overnight.toml"
    file.write_text(more + CONFIG)
    return Precheck(load(file), workflow, table or Table())


def chat(model: str, *, tokens: int = 10, max_tokens: int = 10) -> Line:
    text = "word " * (tokens * 4 // 5)
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": max_tokens}
    return Line("job", "/v1/chat/completions", body)


def test_a_request_larger_than_its_limit_is_refused(tmp_path: Path) -> None:
    check = precheck(tmp_path, "free").check
    check(chat("small", tokens=900))
    with pytest.raises(NoRoute, match=r"the request is larger than a limit: about 2,0\d\d tokens, and one/0/small"):
        check(chat("small", tokens=2_000))
    with pytest.raises(NoRoute, match="larger than a limit"):
        check(chat("small", max_tokens=1_001))


def test_an_expected_answer_makes_no_request_too_large(tmp_path: Path) -> None:
    groq = '[providers.groq]\napi = "openai"\ncounting = "groq"\napi_key = "env:K"\n'
    check = precheck(tmp_path, "free", more=groq + "[providers.groq.models.llama]\ntpm = 6_000\n").check
    line = chat("llama", tokens=5_200, max_tokens=1_000)
    with pytest.raises(NoRoute, match="larger than a limit"):
        check(line)
    del line.body["max_tokens"]
    check(line)


def test_a_line_passes_if_one_target_takes_it(tmp_path: Path) -> None:
    check = precheck(tmp_path, "free").check
    check(chat("mix", tokens=2_000))
    with pytest.raises(NoRoute, match="larger than a limit"):
        check(chat("mix", tokens=200_000))


def test_a_job_that_can_exceed_the_whole_budget_is_refused(tmp_path: Path) -> None:
    check = precheck(tmp_path, "poor").check
    check(chat("priced", max_tokens=500))
    with pytest.raises(NoRoute, match=r"can cost up to \$0\.0\d+ at one/priced, more than .* workflow/poor, \$0\.001"):
        check(chat("priced", max_tokens=1_000))


def test_the_budget_of_all_workflows_counts_too(tmp_path: Path) -> None:
    with pytest.raises(NoRoute, match="the whole budget of all"):
        precheck(tmp_path, "free", more="budget_usd = 0.001\n").check(chat("priced", max_tokens=1_000))


def test_a_missing_price_is_an_error_only_under_a_budget(tmp_path: Path) -> None:
    precheck(tmp_path, "free").check(chat("large"))
    with pytest.raises(NoPrice, match="one/large has no price, and a budget applies: set its input_usd_per_mtok"):
        precheck(tmp_path, "poor").check(chat("large"))


def test_the_price_table_is_asked_once_for_each_model(tmp_path: Path) -> None:
    table = Table(one_large=flat(1.0, 1.0))
    found = precheck(tmp_path, "poor", table)
    for _ in range(3):
        found.check(chat("large", max_tokens=500))
        found.check(chat("priced", max_tokens=500))
    assert table.asked == [{"one/large"}]
    with pytest.raises(NoRoute, match="more than the whole budget"):
        found.check(chat("large", max_tokens=1_000))


def test_a_line_with_a_cheaper_fallback_is_not_refused(tmp_path: Path) -> None:
    check = precheck(tmp_path, "thrifty", Table(one_large=flat(1_000.0, 1_000.0))).check
    check(chat("large", max_tokens=500))
    with pytest.raises(NoRoute, match="at one/priced, more than the whole budget"):
        check(chat("large", max_tokens=1_000))


def test_the_price_table_is_asked_only_if_needed(tmp_path: Path) -> None:
    settings = precheck(tmp_path, "free").settings
    asked = queries(settings, ["one/small", "one/priced", "here/local"])
    assert [each.name for each in asked] == ["one/small", *(f"one/small#{tier}" for tier in ASKED)]


EMBEDDING = "/v1/embeddings"


def embeddings(count: int, model: str = "text-embedding-3-large", **fields: object) -> Line:
    return Line("a", EMBEDDING, {"model": model, "input": ["word"] * count, **fields})


WIDE = """
[providers.wide]
api = "openai"
api_key = "env:K"
[providers.wide.models."text-embedding-3-large"]
[providers.wide.models.other]
[providers.claude]
api = "anthropic"
api_key = "env:K"
[providers.claude.models.opus]
[providers.gateway]
api = "anthropic"
base_url = "http://127.0.0.1:8080"
max_request_mb = 5
[providers.gateway.models.inner]
"""


def test_embeddings_with_too_large_an_answer_are_refused(tmp_path: Path) -> None:
    check = precheck(tmp_path, "free", more=WIDE).check
    with pytest.raises(NoRoute, match="2,048 embeddings of 3,072 numbers, about 126 MB") as raised:
        check(embeddings(2_048))
    assert 'at most 1,040 inputs into a line, or set encoding_format to "base64"' in str(raised.value)
    with pytest.raises(NoRoute, match="4,096 numbers"):
        check(embeddings(2_048, "other", dimensions=4_096))
    check(embeddings(1_040))
    check(embeddings(2_048, encoding_format="base64"))
    check(embeddings(2_048, dimensions=256))
    check(embeddings(2_048, "other"))
    check(Line("a", EMBEDDING, {"model": "text-embedding-3-large", "input": list(range(3_000))}))


@pytest.mark.parametrize(
    ("model", "url", "megabytes"),
    [("opus", "/v1/messages", 32), ("inner", "/v1/messages", 5), ("large", "/v1/chat/completions", 50)],
)
def test_a_line_may_be_as_large_as_its_provider_takes(tmp_path: Path, model: str, url: str, megabytes: int) -> None:
    line = Line("a", url, {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9})
    check = precheck(tmp_path, "free", more=WIDE).check
    check(line, megabytes * 1_000_000)
    with pytest.raises(NoRoute, match=f"takes requests of {megabytes} MB at most"):
        check(line, megabytes * 1_000_000 + 1)
