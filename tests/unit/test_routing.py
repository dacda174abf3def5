"""Which routes a call may take, and in which order."""

from collections import Counter
from pathlib import Path

import pytest

from limits.counting import Estimate
from workers.config.settings import load
from workers.models.routing import MAX_UNLISTED, UNLISTED_SECONDS, NoRoute, Routes, TooManyModels

CONFIG = """
[providers.one]
api = "openai"
api_key = "env:K"
[providers.one.models.small]
rpm = 10
tpm = 1000
[providers.two]
api = "anthropic"
api_key = ["env:K", "env:L"]
concurrency = 9
[providers.two.models.clever]
itpm = 500
otpm = 100
[models.mix]
targets = [{ provider = "one", model = "small", weight = 3 }, { provider = "two", model = "clever", weight = 1 }]
[models.twice]
targets = [{ provider = "one", model = "small", weight = 3 }, { provider = "one", model = "other", weight = 1 }]
"""

CHAT, MESSAGES, EMBEDDINGS = "/v1/chat/completions", "/v1/messages", "/v1/embeddings"


@pytest.fixture
def routes(tmp_path: Path) -> Routes:
    file = tmp_path / "overnight.toml"
    file.write_text(CONFIG)
    return Routes(load(file))


def test_a_url_is_served_by_the_targets_that_speak_it(routes: Routes) -> None:
    assert {route.target for route in routes.find("mix", CHAT)} == {"one/small"}
    assert {route.target for route in routes.find("mix", MESSAGES)} == {"two/clever"}
    with pytest.raises(NoRoute, match='model "clever" is not served at /v1/embeddings: its targets serve /v1/messages'):
        routes.find("clever", EMBEDDINGS)


def test_each_key_is_a_route_with_its_own_quota_and_the_accounts(routes: Routes) -> None:
    found = routes.find("clever", MESSAGES)
    assert [route.account for route in found] == ["two/0", "two/1"]
    assert [[bucket for bucket, _ in route.buckets] for route in found] == [
        ["two/0/clever", "two/0"],
        ["two/1/clever", "two/1"],
    ]
    assert {route.circuit for route in found} == {"two/clever"}


def test_keys_may_share_one_quota(tmp_path: Path) -> None:
    file = tmp_path / "overnight.toml"
    file.write_text(CONFIG.replace("concurrency = 9", "concurrency = 9\nshared_quota = true"))
    found = Routes(load(file)).find("clever", MESSAGES)
    assert {bucket for route in found for bucket, _ in route.buckets} == {"two/0/clever", "two/0"}
    assert len({route.account for route in found}) == 2


def test_the_first_route_is_chosen_by_weight(routes: Routes) -> None:
    found = routes.find("twice", CHAT)
    first = Counter(routes.order(found)[0].target for _ in range(4_000))
    assert 0.70 < first["one/small"] / 4_000 < 0.80


def test_calls_with_the_same_prefix_prefer_the_same_account(routes: Routes) -> None:
    found = routes.find("twice", CHAT)
    orders = {prefix: routes.order(found, prefix) for prefix in map(str, range(4_000))}
    assert all(routes.order(found, prefix) == order for prefix, order in orders.items())
    first = Counter(order[0].target for order in orders.values())
    assert 0.70 < first["one/small"] / 4_000 < 0.80


def test_the_candidate_of_a_failed_target_has_its_time(routes: Routes) -> None:
    route, *_ = routes.find("twice", CHAT)
    estimate = Estimate(input=10, input_ceiling=10, output_ceiling=10)
    assert (route.candidate(estimate).not_before, route.candidate(estimate).fallback) == (0.0, False)
    assert route.candidate(estimate, not_before=2.5).not_before == 2.5
    assert route.candidate(estimate, fallback=True).fallback


def test_a_call_larger_than_a_limit_can_never_take_this_route(routes: Routes) -> None:
    (route,) = routes.find("one/small", CHAT)
    assert route.too_large(Estimate(input=100, input_ceiling=400, output_ceiling=100, max_tokens=100)) is None
    large = Estimate(input=2_000, input_ceiling=8_000, output_ceiling=100, max_tokens=100)
    assert route.too_large(large) == "about 2,000 tokens, and one/0/small allows 1,000 tpm"


def test_output_counted_as_generated_is_never_too_large(routes: Routes) -> None:
    long_answer = Estimate(input=10, input_ceiling=40, output_ceiling=50_000, max_tokens=50_000, output=700)
    route = routes.find("two/clever", MESSAGES)[0]
    assert route.too_large(long_answer) is None
    costs = [charge.costs for charge in route.candidate(long_answer).charges]
    assert costs == [{"itpm": 10, "otpm": 100}, {}], "the forecast is reserved up to the limit"


def test_an_unknown_model_is_reported_with_the_known_ones(routes: Routes) -> None:
    with pytest.raises(NoRoute, match=r"body\.model: no model \"mixx\" is configured; did you mean mix\?"):
        routes.find("mixx", CHAT)


def test_models_that_no_provider_lists_are_bounded_in_number(tmp_path: Path) -> None:
    file = tmp_path / "overnight.toml"
    file.write_text(CONFIG)
    now = [0.0]
    routes = Routes(load(file), clock=lambda: now[0])
    for number in range(MAX_UNLISTED):
        assert routes.find(f"one/m{number}", CHAT)
    with pytest.raises(TooManyModels, match=r"1,000 models .* list the models that you use"):
        routes.find("one/another", CHAT)
    assert routes.find("one/small", CHAT), "what is listed is always called"
    assert routes.find("small", CHAT)
    now[0] += UNLISTED_SECONDS
    assert routes.find("one/m7", CHAT)
    with pytest.raises(TooManyModels):
        routes.repriced({}).find("one/another", CHAT)
    now[0] += 1.0
    assert routes.find("one/another", CHAT), "a day later the others are forgotten"
    assert len(routes._found) == 4, "m7, another, and the listed one by both of its names"


def test_only_listed_models_are_called_if_the_configuration_says_so(tmp_path: Path) -> None:
    file = tmp_path / "overnight.toml"
    file.write_text("unlisted_models = false\n" + CONFIG)
    routes = Routes(load(file))
    assert routes.find("one/small", CHAT)
    assert routes.find("mix", CHAT)
    with pytest.raises(NoRoute, match=r'"one/other" is not listed: add \[providers.one.models\]'):
        routes.find("one/other", CHAT)
