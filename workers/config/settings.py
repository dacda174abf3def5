"""`overnight.toml`: every key, its meaning and its unit. Validated once, at the door; frozen afterwards.

`load` reads the file; SettingsError tells every problem at once. Money is in dollars where people write it and in
nano-dollars (`..._nano`) where it is counted. docs/configuration.md is the same for its readers.
"""

import os
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from workers.config import fields, units
from workers.config.consistency import inconsistencies
from workers.config.credentials import MissingSecretError, Reference
from workers.config.fields import (
    Address,
    Count,
    CountOrZero,
    Dollars,
    ModelName,
    Name,
    Seconds,
    TimeZone,
    Weight,
)
from workers.config.problems import SettingsError, parse, problems
from workers.config.provider_settings import ModelQuota, ProviderSettings, Table

__all__ = [
    "ModelQuota",
    "ModelSettings",
    "ProviderSettings",
    "ScheduleSettings",
    "Settings",
    "SettingsError",
    "Target",
    "UnknownModel",
    "WorkflowSettings",
    "load",
]

FILE_NAME: Final = "overnight.toml"

#: What may stand in braces in the input of a schedule, as a night writes it.
INPUT_PARTS: Final[Mapping[str, Callable[[datetime], str]]] = {
    "date": lambda night: night.strftime("%Y-%m-%d"),
    "yesterday": lambda night: (night.date() - timedelta(days=1)).isoformat(),
    "year": lambda night: night.strftime("%Y"),
    "month": lambda night: night.strftime("%m"),
    "day": lambda night: night.strftime("%d"),
    "hour": lambda night: night.strftime("%H"),
    "minute": lambda night: night.strftime("%M"),
}


class UnknownModel(LookupError):  # noqa: N818 - named for what happened
    """No provider is configured for a model's name; the words say which names there are."""


class Target(Table):
    """Where the calls of a model's name may go, and its share of them."""

    provider: Name
    model: ModelName
    weight: Weight = 1.0


class ModelSettings(Table):
    """A name that a job may give as its `model`."""

    targets: list[Target] = Field(min_length=1)


class WorkflowSettings(Table):
    """How a workflow's jobs are run, and what they may cost."""

    budget_usd: Dollars | None = None
    budget_window: Literal["day", "month", "batch", "total"] = "day"
    timezone: TimeZone = "UTC"
    when_exhausted: Literal["wait", "fail", "fallback"] = "wait"
    fallback: ModelName | None = None
    weight: Weight = 1.0
    concurrency: CountOrZero = 0
    max_attempts: fields.Attempts = 5
    deadline: Seconds = 86_400.0
    priority: Literal["batch", "urgent"] = "batch"
    default_max_tokens: Count | None = None
    agents: tuple[fields.AgentName, ...] | None = None
    """The agents that its jobs may call; None: all, unless another workflow lists agents."""
    max_usd: Dollars | None = None
    max_calls: Count | None = None
    max_seconds: Seconds | None = None

    @property
    def budget_nano(self) -> int | None:
        """The budget in nano-dollars."""
        return None if self.budget_usd is None else units.nanodollars(self.budget_usd)

    def cheaper_than(self, model: str) -> str | None:
        """The model that a job's own falls back to when no budget can pay for it; None where it does not."""
        falls = self.when_exhausted == "fallback" and self.fallback != model
        return self.fallback if falls else None

    @property
    def max_nano(self) -> int | None:
        """What one job of many calls may cost, in nano-dollars."""
        return None if self.max_usd is None else units.nanodollars(self.max_usd)


class ScheduleSettings(Table):
    """When a workflow's input becomes a batch by itself."""

    cron: fields.Cron
    timezone: TimeZone = "UTC"
    workflow: Name
    input: str = Field(min_length=1)
    input_wait: Seconds = 6 * 3600.0

    @field_validator("input", mode="after")
    @classmethod
    def _path(cls, value: str, info: ValidationInfo) -> str:
        if re.search(r"[{}]", re.sub(r"\{(" + "|".join(INPUT_PARTS) + r")\}", "", value)):
            raise ValueError(f"may hold {', '.join(f'{{{part}}}' for part in INPUT_PARTS)} and no other braces")
        return value if "://" in value else str(fields.folder(info) / Path(value).expanduser())

    @property
    def dated(self) -> bool:
        """Whether each night has an input of its own."""
        return "{" in self.input

    def source(self, night: datetime) -> str:
        """The input of a night, which is in the schedule's zone."""
        source = self.input
        for part, written in INPUT_PARTS.items():
            source = source.replace(f"{{{part}}}", written(night))
        return source


_DEFAULT_WORKFLOW: Final = WorkflowSettings()


class Settings(Table):
    """The whole configuration. Every key may be left out."""

    redis_url: Address | None = Field(default=None, repr=False)
    broker_url: Address | None = Field(default=None, repr=False)
    agents: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")], ...] = ()
    data_dir: Path = Field(default=Path(".overnight"), validate_default=True)
    storage: str = Field(default_factory=lambda data: f"file://{data.get('data_dir', '')}/files", validate_default=True)
    namespace: Name = "overnight"
    # A worker that is silent for so long is taken for dead, and its jobs go to others. Seconds.
    visibility_timeout: Annotated[Seconds, Field(ge=1.0)] = 60.0
    budget_usd: Dollars | None = None
    budget_window: Literal["day", "month", "total"] = "month"
    unconfigured_workflows: Annotated[bool, Field(strict=True)] | None = None
    """Whether jobs of workflows without a table run; None: unless only such workflows would have no budget."""
    unlisted_models: bool = Field(default=True, strict=True)
    """Whether a job may name provider/MODEL if the provider doesn't list the model."""
    remote_control: bool = Field(default=True, strict=True)
    """Whether workers obey `celery control` and Flower's buttons, and answer `celery inspect`."""
    stop_grace_period: Annotated[float, Field(ge=0, le=86_400)] = 25.0
    """Seconds that calls in flight have when their worker is stopped; then their jobs go back into the queue."""
    providers: dict[Name, ProviderSettings] = Field(default_factory=dict)
    models: dict[ModelName, ModelSettings] = Field(default_factory=dict)
    workflows: dict[Name, WorkflowSettings] = Field(default_factory=dict)
    schedules: dict[Name, ScheduleSettings] = Field(default_factory=dict)

    _file: Path | None = PrivateAttr(default=None)

    @field_validator("redis_url", "broker_url", mode="before")
    @classmethod
    def _url(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None:
            return None
        schemes: tuple[str, ...]
        if info.field_name == "redis_url":
            schemes, told = ("redis", "rediss"), "redis://host:6379/0 or rediss://…"
        else:
            schemes, told = (
                ("amqp", "amqps", "redis", "rediss"),
                "amqp://…, amqps://…, redis://… or rediss://…",
            )
        if not isinstance(value, str):
            raise ValueError(f"must be a URL, {told}")  # noqa: TRY004 - pydantic reports ValueErrors
        return fields.server_address(value, fields.folder(info), schemes, told)

    @field_validator("data_dir", mode="after")
    @classmethod
    def _absolute(cls, value: Path, info: ValidationInfo) -> Path:
        return Path(os.path.abspath(fields.folder(info) / value.expanduser()))  # noqa: PTH100 - keeps links as they are

    @field_validator("storage", mode="after")
    @classmethod
    def _storage(cls, value: str, info: ValidationInfo) -> str:
        scheme, separator, rest = value.partition("://")
        if not separator:
            scheme, rest = "file", value
        if not re.fullmatch(r"[a-z][a-z0-9+.:-]*", scheme) or not rest:
            raise ValueError('must be a folder or a URL that fsspec knows, such as "s3://bucket/overnight"')
        if "@" in rest.partition("/")[0] and ":" in rest.partition("@")[0]:
            raise ValueError("holds a password; the storage's own library reads it from the environment")
        if scheme in {"file", "local"}:
            return "file://" + os.path.abspath(fields.folder(info) / Path(rest).expanduser())  # noqa: PTH100 - as above
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _everything(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Tell what does not fit together beside what is wrong in itself, not only after that is mended."""
        wrong: list[InitErrorDetails] = []
        settings: Self | None = None
        try:
            settings = handler(data)
        except ValidationError as exc:
            wrong = [
                InitErrorDetails(
                    type=PydanticCustomError(error["type"], "{words}", {**error.get("ctx", {}), "words": error["msg"]}),
                    loc=error["loc"],
                    input=error["input"],
                )
                for error in exc.errors()
            ]
        written = data if settings is None else settings.model_dump()
        for place, words, found in inconsistencies(written if isinstance(written, Mapping) else {}):
            mistake = PydanticCustomError("inconsistent", "{words}", {"words": words})
            wrong.append(InitErrorDetails(type=mistake, loc=place, input=found))
        if wrong or settings is None:
            raise ValidationError.from_exception_data(cls.__name__, wrong, hide_input=True)
        return settings

    @property
    def file(self) -> Path | None:
        """The file that was read; None for the built-in defaults."""
        return self._file

    @property
    def budget_nano(self) -> int | None:
        """The budget over everything, in nano-dollars."""
        return None if self.budget_usd is None else units.nanodollars(self.budget_usd)

    @property
    def any_workflow(self) -> bool:
        """Whether jobs of workflows without a table run: as the file says, else unless they would escape a budget."""
        if self.unconfigured_workflows is not None:
            return self.unconfigured_workflows
        return self.budget_usd is not None or all(each.budget_usd is None for each in self.workflows.values())

    def refusal(self, workflow: str) -> str:
        """Why jobs of a workflow don't run, and how to change that; '' if they do."""
        if workflow in self.workflows or self.any_workflow:
            return ""
        near = get_close_matches(workflow, self.workflows, 1, 0.6)
        meant = f'did you mean "{near[0]}"? Else ' if near else ""
        return (
            f'workflow "{workflow}" is not configured, so no budget would count its jobs: '
            f"{meant}add [workflows.{_key(workflow)}], or unconfigured_workflows = true"
        )

    def may_call(self, workflow: str, agent: str) -> bool:
        """Whether a workflow's jobs may call an agent: any, until one workflow lists agents; then those it lists."""
        if all(each.agents is None for each in self.workflows.values()):
            return True
        return agent in (self.workflow(workflow).agents or ())

    def warning(self, workflow: str) -> str:
        """What a person should know before a workflow without a table runs; '' if nothing."""
        budgeted = any(each.budget_usd is not None for each in self.workflows.values())
        if workflow in self.workflows or self.budget_usd is not None or not budgeted:
            return ""
        return f'workflow "{workflow}" is not configured, so it has no budget'

    def workflow(self, name: str) -> WorkflowSettings:
        """A workflow's settings; the defaults for one that the file does not name."""
        return self.workflows.get(name, _DEFAULT_WORKFLOW)

    def model(self, provider: str, model: str) -> ModelQuota:
        """The limits and prices of a provider's model; unlimited where it is not listed."""
        return self.providers[provider].models.get(model) or ModelQuota()

    def find_model(self, name: str) -> list[tuple[str, str, float]]:
        """(provider, model, weight) of each target that a job's `model` may go to.

        A name under [models], else `provider/model` (listed or not), else the one provider that lists it.
        UnknownModel where that leads nowhere, or to several providers.
        """
        if name in self.models:
            return [(target.provider, target.model, target.weight) for target in self.models[name].targets]
        provider, _, model = name.partition("/")
        if model and provider in self.providers and (self.unlisted_models or model in self.providers[provider].models):
            return [(provider, model, 1.0)]
        listing = [each for each, settings in self.providers.items() if name in settings.models]
        if len(listing) == 1:
            return [(listing[0], name, 1.0)]
        raise UnknownModel(self._no_model(name, listing))

    @cached_property
    def model_names(self) -> list[str]:
        """Every name that `find_model` knows without being told the provider."""
        listed = [model for provider in self.providers.values() for model in provider.models]
        return sorted({*self.models, *listed})

    def missing_secrets(self) -> list[str]:
        """What the providers need and is not there: the variable or file by name, and whose it is."""
        missing = []
        for name, provider in self.providers.items():
            wanted = [("api_key", key) for key in provider.api_key]
            if isinstance(provider.address, Reference):
                wanted.append(("base_url", provider.address))
            for key, each in wanted:
                try:
                    each.value()
                except MissingSecretError as exc:
                    missing.append(f"{exc} (providers.{name}.{key})")
        return missing

    def _no_model(self, name: str, listing: list[str]) -> str:
        shown = f'"{name}"' if len(name) <= 80 and name.isprintable() else "that"  # noqa: PLR2004 - a line's worth
        provider, _, model = name.partition("/")
        if model and provider in self.providers:
            return f"{shown} is not listed: add [providers.{_key(provider)}.models] for it, or unlisted_models = true"
        if not self.providers:
            where = f"in {self._file}" if self._file else f"there is no {FILE_NAME} here"
            mend = "add a [providers.NAME] table" if self._file else "`overnight init` writes a first one"
            return f"no provider is configured ({where}), so no model {shown} can be called; {mend}"
        if listing:
            choices = " or ".join(f'"{provider}/{name}"' for provider in listing)
            return f"{shown} is listed by several providers: write {choices}, or name a mix under [models]"
        near = get_close_matches(name, self.model_names, 3, 0.6)
        if near:
            return f"no model {shown} is configured; did you mean {' or '.join(near)}?"
        known = ", ".join(self.model_names[:8]) or f"{next(iter(self.providers))}/MODEL"
        return f"no model {shown} is configured; there are: {known}"


def _key(name: str) -> str:
    """A name as it is written in a table's heading."""
    return f'"{name}"' if "." in name else name


def load(path: str | Path | None = None) -> Settings:
    """Read the configuration: `path`, else OVERNIGHT_CONFIG, else ./overnight.toml, else the built-in defaults.

    SettingsError with every problem of the file, each with its line, its key and what would be right.
    """
    named = path or os.environ.get("OVERNIGHT_CONFIG")
    file = Path(named or FILE_NAME).expanduser().absolute()
    if not named and not file.exists():
        return Settings()
    shown = str(named or FILE_NAME)
    text, data = parse(file, shown)
    try:
        settings = Settings.model_validate(data, context={"folder": file.parent})
    except ValidationError as exc:
        raise SettingsError(problems(exc, Settings, shown, text)) from None
    settings._file = file  # noqa: SLF001 - pydantic's private attributes are set after validation
    return settings
