"""overnight.toml: every key is read, and every problem is reported with its line, its key and what would be right."""

import os
from decimal import Decimal
from pathlib import Path

import pytest

from workers.config.settings import Settings, SettingsError, UnknownModel, load

EVERYTHING = """\
redis_url = "redis://user:secret-word@127.0.0.1:6379/0"
broker_url = "amqp://guest:secret-word@127.0.0.1//"
agents    = ["my_agents", "more.agents"]
data_dir  = "data"
storage   = "file://data/files"
namespace = "team"
budget_usd = 200.0
budget_window = "month"

[providers.openai]
api      = "openai"
counting = "openai"
base_url = "https://api.openai.com/v1/"
api_key  = "env:SETTINGS_TEST_KEY"
timeout  = 120.0
[providers.openai.models."gpt-4o-mini"]
rpm = 10_000
tpm = 2_000_000
itpm = 1
otpm = 2
rpd = 3
tpd = 4
concurrency = 5
burst = "auto"
headroom = 0.97
input_usd_per_mtok = 0.15
output_usd_per_mtok = 0.60
[providers.groq]
api = "openai"
counting = "groq"
base_url = "https://api.groq.com/openai/v1"
api_key = ["env:SETTINGS_TEST_KEY", "file:key.txt"]
shared_quota = true
rpm = 100
[providers.groq.models."llama-3.3-70b"]
burst = 2.5

[models.small]
targets = [ { provider = "openai", model = "gpt-4o-mini", weight = 3 }, { provider = "groq", model = "llama-3.3-70b" } ]

[workflows.nightly-summaries]
budget_usd = 25.0
budget_window = "day"
timezone = "Europe/Berlin"
when_exhausted = "fallback"
fallback = "small"
weight = 2
concurrency = 7
max_attempts = 3
deadline = "1h30m"
priority = "urgent"

[schedules.summaries]
cron = "0 2 * * *"
timezone = "UTC"
workflow = "nightly-summaries"
input = "s3://bucket/in/{date}.jsonl"
"""


def read(folder: Path, text: str) -> Settings:
    file = folder / "overnight.toml"
    file.write_text(text)
    return load(file)


def problems(folder: Path, text: str) -> list[str]:
    """What is wrong with a file, without the file's own name."""
    with pytest.raises(SettingsError) as caught:
        read(folder, text)
    return [line.removeprefix(f"{folder}/overnight.toml") for line in str(caught.value).splitlines()]


def test_every_key_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SETTINGS_TEST_KEY", "sk-from-the-environment")
    (tmp_path / "key.txt").write_text("sk-from-a-file\n")
    settings = read(tmp_path, EVERYTHING)
    assert settings.data_dir == tmp_path / "data"
    assert settings.storage == f"file://{tmp_path}/data/files"
    assert settings.budget_nano == 200 * 10**9
    assert settings.agents == ("my_agents", "more.agents")
    openai, groq = settings.providers["openai"], settings.providers["groq"]
    assert openai.base_url == "https://api.openai.com/v1"
    assert openai.keys() == ["sk-from-the-environment"]
    assert groq.keys() == ["sk-from-the-environment", "sk-from-a-file"]
    assert groq.shared_quota
    assert groq.counting_name == "groq"
    quota = openai.models["gpt-4o-mini"].quota()
    assert quota.limits == {"rpm": 10_000, "tpm": 2_000_000, "itpm": 1, "otpm": 2, "rpd": 3, "tpd": 4}
    assert (quota.concurrency, quota.burst, quota.headroom) == (5, "auto", 0.97)
    assert groq.models["llama-3.3-70b"].quota().burst == 2.5
    account = groq.quota()
    assert account is not None
    assert account.limits == {"rpm": 100}
    workflow = settings.workflow("nightly-summaries")
    assert (workflow.budget_nano, workflow.deadline, workflow.max_attempts) == (25 * 10**9, 5400.0, 3)
    assert (workflow.concurrency, workflow.weight, workflow.priority) == (7, 2.0, "urgent")
    assert settings.workflow("unheard-of").deadline == 86_400.0
    assert openai.models["gpt-4o-mini"].input_usd_per_mtok == Decimal("0.15")
    assert settings.schedules["summaries"].input == "s3://bucket/in/{date}.jsonl"
    assert settings.find_model("small") == [("openai", "gpt-4o-mini", 3.0), ("groq", "llama-3.3-70b", 1.0)]
    assert settings.find_model("groq/anything") == [("groq", "anything", 1.0)]
    assert settings.find_model("llama-3.3-70b") == [("groq", "llama-3.3-70b", 1.0)]


def test_no_secret_is_shown_by_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SETTINGS_TEST_KEY", "sk-from-the-environment")
    settings = read(tmp_path, EVERYTHING)
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert "secret-word" not in shown
        assert "sk-from" not in shown


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        ("", "?ssl_cert_reqs=required"),
        ("?ssl_ca_certs=/ca.pem", "?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required"),
        ("?ssl_cert_reqs=none", "?ssl_cert_reqs=none"),
        ("?ssl_cert_reqs=CERT_NONE&ssl_ca_certs=/ca.pem", "?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem"),
        ("?ssl_ca_certs=/ca.pem&ssl_cert_reqs=CERT_REQUIRED", "?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required"),
        ("?ssl_cert_reqs=CERT_OPTIONAL", "?ssl_cert_reqs=optional"),
    ],
)
def test_how_far_a_tls_server_is_trusted_has_two_spellings(tmp_path: Path, query: str, meant: str) -> None:
    settings = read(tmp_path, f'redis_url = "rediss://:p@h:1/0{query}"\nbroker_url = "rediss://:p@h:1/1{query}"')
    assert settings.redis_url == f"rediss://:p@h:1/0{meant}"
    assert settings.broker_url == f"rediss://:p@h:1/1{meant}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('redis_url = "rediss://h?ssl_cert_reqs=maybe"', ":1: redis_url: has an unknown ssl_cert_reqs"),
        ('redis_urll = "x"', ':1: redis_urll: unknown key; did you mean "redis_url"?'),
        ("data_dir = 3", ":1: data_dir: must be a string in quotes, got 3"),
        ('redis_url = "http://x"', ":1: redis_url: must be a URL, redis://host:6379/0 or rediss://…"),
        ('budget_window = "week"', ':1: budget_window: must be one of "day", "month", "total", got "week"'),
        ("budget_usd = 0", ":1: budget_usd: must be above 0; leave the key out for no limit"),
        ("budget_usd = 1e9", ":1: budget_usd: must be at most 9,007,199 US dollars"),
        ("budget_usd = nan", ":1: budget_usd: must be an amount in US dollars"),
        ('agents = ["a b"]', ":1: agents[1]: must be made of letters, digits and . _ -"),
        ("[providers.p]", ":1: providers.p.api: is missing"),
        ('[providers.p]\napi = "opnai"', ':2: providers.p.api: must be one of "openai", "azure", "anthropic"'),
        ('[providers.p]\napi = "azure"\napi_key = "env:K"', ":1: providers.p: base_url is missing"),
        ('[providers.p]\napi = "openai"', ":1: providers.p: api_key is missing"),
        ('[providers.p]\napi = "openai"\napi_key = "sk-123"', ':3: providers.p.api_key: must be "env:NAME"'),
        ('[providers.p]\napi="openai"\nbase_url="ftp://x"', ":3: providers.p.base_url: must be an address"),
        ('[providers.p]\napi="openai"\nbase_url="http://u:p@x"', ":3: providers.p.base_url: must not contain a user"),
        ("[models.m]\ntargets = []", ":2: models.m.targets: must have at least one entry"),
        (
            '[models.m]\ntargets = [{provider="q", model="x"}]',
            ":2: models.m.targets[1].provider: must be a table under [providers] (there are none)",
        ),
        ('[workflows.w]\ndeadline = "soon"', ":2: workflows.w.deadline: must be a number of seconds above 0"),
        ('[workflows.w]\nagents = ["a b"]', ":2: workflows.w.agents[1]: must be an agent's name"),
        ('[workflows.w]\ntimezone = "Mars"', ":2: workflows.w.timezone: must be a time zone of the IANA database"),
        ("[workflows.w]\nmax_attempts = 0", ":2: workflows.w.max_attempts: must be a whole number above 0, got 0"),
        ('[workflows.w]\nwhen_exhausted = "fallback"', ":1: workflows.w.fallback: is missing"),
        ('[workflows.w]\nfallback = "x"', ":2: workflows.w.fallback: must be a model that is configured"),
        (
            '[workflows.w]\n[schedules.s]\ncron = "0 2 31 2 *"\nworkflow = "w"\ninput = "x"',
            ':3: schedules.s.cron: must be five fields, minute hour day month weekday, such as "0 2 * * *": day',
        ),
        (
            '[workflows.w]\n[schedules.s]\ncron = "0 2 * * *"\nworkflow = "v"\ninput = "x"',
            ":4: schedules.s.workflow: must be a table under [workflows], which may be empty (there are: w)",
        ),
        ("rpm = ", ":1: is not valid TOML: Invalid value"),
        ("x = 1\nx = 2", ":2: is not valid TOML: the key is set twice"),
    ],
)
def test_each_problem_is_reported_with_its_line_and_fix(tmp_path: Path, text: str, words: str) -> None:
    found = problems(tmp_path, text)
    assert any(line.startswith(words) for line in found), found


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("rpm", "0", "must be a whole number above 0, got 0"),
        ("tpm", "1.5", "must be a whole number above 0, got 1.5"),
        ("rpd", "true", "must be a whole number above 0, got true"),
        ("concurrency", '"4"', 'must be a whole number above 0, got "4"'),
        ("burst", "100", 'must be "auto" or a number of seconds, above 0 and at most 60, got 100'),
        ("headroom", "1.2", 'must be "auto" or the fraction of a limit to use, above 0 and at most 1, got 1.2'),
        ("input_usd_per_mtok", "-1", "must be an amount in US dollars, 0 or above, got -1"),
        ("rmp", "3", 'unknown key; did you mean "rpm"?'),
    ],
)
def test_a_models_limits_are_checked(tmp_path: Path, key: str, value: str, words: str) -> None:
    text = f'[providers.p]\napi = "openai"\napi_key = "env:K"\n[providers.p.models.m]\n{key} = {value}'
    assert problems(tmp_path, text) == [f":5: providers.p.models.m.{key}: {words}"]


def test_every_problem_is_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = 'data_dir = 3\nnamespace = "a b"\n[workflows.w]\ndeadline = -1\n[models.m]\ntargets = 4\n'
    assert [line.split(": ")[0] + ":" + line.split(": ")[1] for line in problems(tmp_path, text)] == [
        ":1:data_dir",
        ":2:namespace",
        ":4:workflows.w.deadline",
        ":6:models.m.targets",
    ]


def test_a_key_in_the_file_is_refused_and_not_repeated(tmp_path: Path) -> None:
    text = '[providers.p]\napi = "openai"\napi_key = "sk-very-secret"\nbase_url = "https://u:sk-very-secret@h"\n'
    assert "sk-very-secret" not in "\n".join(problems(tmp_path, text))


def test_an_unset_variable_is_told_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SETTINGS_TEST_KEY", raising=False)
    settings = read(tmp_path, EVERYTHING)
    assert settings.missing_secrets() == [
        "the environment variable SETTINGS_TEST_KEY is not set (providers.openai.api_key)",
        "the environment variable SETTINGS_TEST_KEY is not set (providers.groq.api_key)",
        f"the file {tmp_path}/key.txt cannot be read: No such file or directory (providers.groq.api_key)",
    ]


def test_where_the_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OVERNIGHT_CONFIG", raising=False)
    assert load().file is None
    (tmp_path / "overnight.toml").write_text('namespace = "here"')
    assert load().namespace == "here"
    (tmp_path / "other.toml").write_text('namespace = "named"')
    monkeypatch.setenv("OVERNIGHT_CONFIG", "other.toml")
    assert load().namespace == "named"
    assert load("overnight.toml").namespace == "here"
    os.environ["OVERNIGHT_CONFIG"] = "gone.toml"
    with pytest.raises(SettingsError, match=r"gone\.toml"):
        load()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a" * 11_000_000, b"x = " + b"[" * 5_000])
def test_what_is_no_configuration_at_all(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "overnight.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError):
        load(file)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smal", 'did you mean "small"?|did you mean small?'),
        ("nothing-like-it", "there are: "),
    ],
)
def test_an_unknown_model_is_reported_with_the_known_ones(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        read(tmp_path, EVERYTHING).find_model(name)
    assert any(each in str(caught.value) for each in words.split("|"))


@pytest.mark.parametrize(
    ("top", "workflows", "runs", "warned"),
    [
        ("", "", True, False),
        ("", "[workflows.nightly]", True, False),
        ("", "[workflows.nightly]\nbudget_usd = 1.0", False, True),
        ("budget_usd = 5.0", "[workflows.nightly]\nbudget_usd = 1.0", True, False),
        ("unconfigured_workflows = true", "[workflows.nightly]\nbudget_usd = 1.0", True, True),
        ("unconfigured_workflows = false", "[workflows.nightly]", False, False),
    ],
)
def test_a_workflow_without_a_table_runs_unless_it_would_escape_a_budget(
    tmp_path: Path, top: str, workflows: str, runs: bool, warned: bool
) -> None:
    file = tmp_path / "overnight.toml"
    file.write_text(f"{top}\n{workflows}\n")
    settings = load(file)
    assert settings.any_workflow is runs
    assert bool(settings.warning("nightly-typo")) is warned
    assert bool(settings.refusal("nightly-typo")) is not runs
    if workflows:
        assert not settings.refusal("nightly")
        assert not settings.warning("nightly")


def test_a_schedules_workflow_must_be_one_that_runs(tmp_path: Path) -> None:
    schedule = '[schedules.s]\ncron = "0 2 * * *"\nworkflow = "default"\ninput = "in.jsonl"\n'
    file = tmp_path / "overnight.toml"
    file.write_text(schedule)
    assert load(file).schedules["s"].workflow == "default"
    file.write_text(f"{schedule}[workflows.nightly]\nbudget_usd = 1.0\n")
    with pytest.raises(SettingsError, match=r"schedules\.s\.workflow: must be a table under"):
        load(file)
