"""What each provider's rule charges at admission and at settlement."""

import dataclasses
import random

import pytest

from limits.counting import UNKNOWN_OUTPUT, UNSENT, Costs, Estimate, Usage, admission, certain, refused, settlement
from workers.providers.counting_profiles import PROFILES, profile

STATED = Estimate(input=100, input_ceiling=400, output_ceiling=500, max_tokens=500, output=80)
SILENT = dataclasses.replace(STATED, max_tokens=None)
USAGE = Usage(input=120, cached=50, cache_write=20, output=60)


@pytest.mark.parametrize(
    ("counting", "reserved", "settled"),
    [
        # rpm tpm itpm otpm rpd tpd
        ("openai", Costs(1, 500, 100, 500, 1, 500), Costs(1, 500, 120, 500, 1, 500)),
        ("azure", Costs(1, 600, 100, 500, 1, 600), Costs(1, 600, 120, 500, 1, 600)),
        ("anthropic", Costs(1, 180, 100, 80, 1, 180), Costs(1, 130, 70, 60, 1, 130)),
        ("bedrock", Costs(1, 600, 100, 500, 1, 600), Costs(1, 130, 70, 60, 1, 130)),
        ("gemini", Costs(1, 100, 100, 80, 1, 100), Costs(1, 120, 120, 60, 1, 120)),
        ("groq", Costs(1, 600, 100, 500, 1, 600), Costs(1, 130, 70, 60, 1, 130)),
        ("plain", Costs(1, 180, 100, 80, 1, 180), Costs(1, 180, 120, 60, 1, 180)),
    ],
)
def test_each_rule_with_max_tokens(counting: str, reserved: Costs, settled: Costs) -> None:
    rule = profile(counting)
    assert admission(rule, STATED) == reserved
    assert settlement(rule, STATED, USAGE) == settled


@pytest.mark.parametrize(
    ("counting", "output"),
    [
        ("openai", 0),
        ("azure", 0),
        ("anthropic", 80),
        ("bedrock", 500),
        ("gemini", 80),
        ("groq", 80),
        ("plain", 80),
    ],
)
def test_the_output_reserved_for_a_request_that_states_none(counting: str, output: int) -> None:
    assert admission(profile(counting), SILENT).otpm == output


@pytest.mark.parametrize(
    ("counting", "stated", "silent"),
    [
        ("openai", 500, 0),
        ("azure", 500, 0),
        ("anthropic", 0, 0),
        ("bedrock", 500, 500),
        ("gemini", 0, 0),
        ("groq", 500, 0),
        ("plain", 0, 0),
    ],
)
def test_no_forecast_is_certain(counting: str, stated: int, silent: int) -> None:
    rule = profile(counting)
    assert certain(rule, STATED).otpm == stated
    assert certain(rule, SILENT).otpm == silent
    assert certain(rule, SILENT).itpm == SILENT.input


def test_openai_charges_the_larger_of_prompt_and_max_tokens() -> None:
    long_prompt = dataclasses.replace(STATED, input=9_000, input_ceiling=20_000)
    assert admission(profile("openai"), long_prompt).tpm == 9_000
    assert admission(profile("openai"), SILENT).tpm == 100


def test_an_answer_beyond_its_estimate_becomes_debt_with_every_rule() -> None:
    usage = Usage(input=300, output=2_000)
    for rule in PROFILES.values():
        reserved, settled = admission(rule, SILENT), settlement(rule, SILENT, usage)
        assert settled.itpm == 300 > reserved.itpm
        assert settled.otpm == 2_000 > reserved.otpm
        assert settled.tpm > reserved.tpm


def test_only_rules_that_refund_give_tokens_back() -> None:
    little = Usage(input=10, output=1)
    for rule in PROFILES.values():
        reserved, settled = admission(rule, STATED), settlement(rule, STATED, little)
        assert (settled.tpm < reserved.tpm) is rule.refunds


def test_no_answer_seen_yet_reserves_a_modest_forecast_within_the_ceiling() -> None:
    first = dataclasses.replace(STATED, output=None, output_ceiling=64_000, max_tokens=64_000)
    assert admission(profile("anthropic"), first).otpm == UNKNOWN_OUTPUT
    assert admission(profile("anthropic"), dataclasses.replace(first, output_ceiling=50)).otpm == 50


def test_an_error_of_the_provider_counts_as_a_request_and_as_tokens_only_where_nothing_is_refunded() -> None:
    assert refused(profile("openai"), STATED) == admission(profile("openai"), STATED)
    assert refused(profile("anthropic"), STATED) == Costs(rpm=1, rpd=1)


def test_several_requests_of_one_call_count_each() -> None:
    two = dataclasses.replace(STATED, requests=2)
    for rule in PROFILES.values():
        assert admission(rule, two).rpm == settlement(rule, two, USAGE).rpd == refused(rule, two).rpm == 2


@pytest.mark.parametrize(
    ("model", "burn"),
    [
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", 5),
        ("anthropic.claude-opus-4-5-20251101-v1:0", 5),
        ("anthropic.claude-3-7-sonnet-20250219-v1:0", 5),
        ("anthropic.claude-opus-5-v1:0", 5),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", 1),
        ("anthropic.claude-3-haiku-20240307-v1:0", 1),
        ("anthropic.claude-instant-v1", 1),
        ("amazon.nova-pro-v1:0", 1),
    ],
)
def test_bedrocks_claude_burns_five_times_its_output_at_settlement_only(model: str, burn: int) -> None:
    rule = profile("bedrock", model)
    assert admission(rule, STATED).otpm == 500
    assert settlement(rule, STATED, USAGE).otpm == 60 * burn
    assert profile("anthropic", model).burn == 1


def test_an_unknown_rule_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"openai, azure, anthropic, bedrock, gemini, groq, plain: got 'mistral'"):
        profile("mistral")


def test_every_rule_names_its_source() -> None:
    assert all(name == rule.name and rule.source for name, rule in PROFILES.items())


def test_invariants_of_random_calls() -> None:
    rng = random.Random(3)
    for _ in range(2_000):
        ceiling, output_ceiling = rng.randint(1, 10**6), rng.randint(0, 10**5)
        estimate = Estimate(
            input=rng.randint(1, ceiling),
            input_ceiling=ceiling,
            output_ceiling=output_ceiling,
            max_tokens=rng.choice([None, output_ceiling]),
            output=rng.choice([None, rng.randint(0, 10**6)]),
        )
        taken = rng.randint(0, 2 * ceiling)
        usage = Usage(taken, rng.randint(0, taken), 0, rng.randint(0, 2 * output_ceiling))
        for rule in (*PROFILES.values(), profile("bedrock", "claude-opus-4-1")):
            reserved, settled = admission(rule, estimate), settlement(rule, estimate, usage)
            assert all(least <= most for least, most in zip(certain(rule, estimate), reserved, strict=True))
            for costs in (reserved, settled, refused(rule, estimate)):
                assert all(type(cost) is int and cost >= 0 for cost in costs)
                assert costs.tpm == costs.tpd
                assert max(costs.itpm, 0) <= costs.tpm <= costs.itpm + costs.otpm
            assert reserved.otpm <= estimate.output_ceiling
            assert settled.rpm == reserved.rpm
            if not rule.refunds:
                assert all(after >= before for before, after in zip(reserved, settled, strict=True))
            else:
                assert settled.itpm == usage.input - (0 if rule.cached else usage.cached)
                assert settled.otpm == usage.output * rule.burn
    assert not any(UNSENT)
