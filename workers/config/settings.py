"""`overnight.toml`: every key with its meaning and unit. Read and validated once, then frozen.

`load` reads the file and raises SettingsError with every problem at once. People write money in dollars; code counts it
in nano-dollars (`..._nano`). docs/configuration.md describes the same keys for users.
"""

import os
import re
from collections.abc import Mapping, Sequence
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

from workers.config import changes, fields, units
from workers.config.changes import Change
from workers.config.consistency import inconsistencies
from workers.config.credentials import MissingSecretError, Reference
from workers.config.fields import (
    Address,
    Dollars,
    ModelName,
    Name,
    Seconds,
)
from workers.config.model_settings import FILE_NAME, ModelSettings, Target, UnknownModel, table_key, unknown_model
from workers.config.problems import SettingsError, parse, problems
from workers.config.provider_settings import ModelQuota, ProviderSettings, Table
from workers.config.schedule_settings import ScheduleSettings
from workers.config.server_settings import ClientSettings, ServerSettings, WebhookSettings
from workers.config.workflow_settings import WorkflowSettings

__all__ = [
    "ClientSettings",
    "ModelQuota",
    "ModelSettings",
    "ProviderSettings",
    "ScheduleSettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "Target",
    "UnknownModel",
    "WebhookSettings",
    "WorkflowSettings",
    "load",
]

_DEFAULT_WORKFLOW: Final = WorkflowSettings()


class Settings(Table):
    """The whole configuration. Every key may be left out."""

    redis_url: Address | None = Field(default=None, repr=False)
    broker_url: Address | None = Field(default=None, repr=False)
    agents: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")], ...] = ()
    data_dir: Path = Field(default=Path(".overnight"), validate_default=True)
    storage: str = Field(default_factory=lambda data: f"file://{data.get('data_dir', '')}/files", validate_default=True)
    namespace: Name = "overnight"
    visibility_timeout: Annotated[Seconds, Field(ge=1.0)] = 60.0
    """Seconds of silence after which a worker counts as dead and its jobs go to others."""
    budget_usd: Dollars | None = None
    budget_window: Literal["day", "month", "total"] = "month"
    unconfigured_workflows: Annotated[bool, Field(strict=True)] | None = None
    """Whether jobs of workflows without a table run. None: yes, unless that would let them escape a budget."""
    unlisted_models: bool = Field(default=True, strict=True)
    """Whether a job may name provider/MODEL if the provider doesn't list the model."""
    remote_control: bool = Field(default=True, strict=True)
    """Whether workers obey `celery control` and Flower's buttons, and answer `celery inspect`."""
    stop_grace_period: Annotated[float, Field(ge=0, le=86_400)] = 25.0
    """Seconds in which a worker stops. Calls have all but the last five to finish; then their jobs go back."""
    providers: dict[Name, ProviderSettings] = Field(default_factory=dict)
    models: dict[ModelName, ModelSettings] = Field(default_factory=dict)
    workflows: dict[Name, WorkflowSettings] = Field(default_factory=dict)
    schedules: dict[Name, ScheduleSettings] = Field(default_factory=dict)
    server: ServerSettings = Field(default_factory=ServerSettings)
    clients: dict[Name, ClientSettings] = Field(default_factory=dict)
    webhooks: dict[Name, WebhookSettings] = Field(default_factory=dict)

    _file: Path | None = PrivateAttr(default=None)

    @field_validator("redis_url", "broker_url", mode="before")
    @classmethod
    def _url(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None:
            return None
        schemes: tuple[str, ...]
        if info.field_name == "redis_url":
            schemes, expected = ("redis", "rediss"), "redis://host:6379/0 or rediss://…"
        else:
            schemes, expected = (
                ("amqp", "amqps", "redis", "rediss"),
                "amqp://…, amqps://…, redis://… or rediss://…",
            )
        if not isinstance(value, str):
            raise ValueError(f"must be a URL, {expected}")  # noqa: TRY004 - pydantic reports ValueErrors
        return fields.server_address(value, fields.folder(info), schemes, expected)

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
            raise ValueError("contains a password; put it into the environment, where the storage's library reads it")
        if scheme in {"file", "local"}:
            return "file://" + os.path.abspath(fields.folder(info) / Path(rest).expanduser())  # noqa: PTH100 - as above
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _everything(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Report undefined names together with invalid values, not only once those are fixed."""
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
        """The file that was read, None if there was none."""
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
            f"{meant}add [workflows.{table_key(workflow)}], or unconfigured_workflows = true"
        )

    def may_call(self, workflow: str, agent: str) -> bool:
        """Whether a workflow's jobs may call `agent`. Once one workflow lists agents, each may call only its own."""
        if all(each.agents is None for each in self.workflows.values()):
            return True
        return agent in (self.workflow(workflow).agents or ())

    def warning(self, workflow: str) -> str:
        """A warning for someone who starts a workflow without a table; '' if there is none."""
        budgeted = any(each.budget_usd is not None for each in self.workflows.values())
        if workflow in self.workflows or self.budget_usd is not None or not budgeted:
            return ""
        return f'workflow "{workflow}" is not configured, so it has no budget'

    def workflow(self, name: str) -> WorkflowSettings:
        """A workflow's settings; the defaults if the file has no table for it."""
        return self.workflows.get(name, _DEFAULT_WORKFLOW)

    def model(self, provider: str, model: str) -> ModelQuota:
        """The limits and prices of a provider's model; no limits if it isn't listed."""
        return self.providers[provider].models.get(model) or ModelQuota()

    def find_model(self, name: str) -> list[tuple[str, str, float]]:
        """(provider, model, weight) of each target that a job's `model` may go to.

        `name` is looked for under [models], then as `provider/model` (listed or not), then in each provider's list.
        Raises UnknownModel if nothing is found, or if several providers list it.
        """
        if name in self.models:
            return [(target.provider, target.model, target.weight) for target in self.models[name].targets]
        provider, _, model = name.partition("/")
        if model and provider in self.providers and (self.unlisted_models or model in self.providers[provider].models):
            return [(provider, model, 1.0)]
        listed_by = [each for each, settings in self.providers.items() if name in settings.models]
        if len(listed_by) == 1:
            return [(listed_by[0], name, 1.0)]
        raise unknown_model(name, self.providers, listed_by, self.model_names, self._file)

    @cached_property
    def model_names(self) -> list[str]:
        """Every name that `find_model` knows without a provider in front of it."""
        listed = [model for provider in self.providers.values() for model in provider.models]
        return sorted({*self.models, *listed})

    def changed(self, changed: Sequence[Change]) -> "Settings":
        """These settings as their file says now, with changes. Raises SettingsError if they don't fit together."""
        return load(self._file, changed)

    def change(self, path: changes.Path, value: changes.Value, at: float) -> Change:
        """A change of one of the file's settings. Raises SettingsError if the file has no such table."""
        return Change(path, value, changes.in_file(self._tables(), path), at)

    def holding(self, changed: Sequence[Change]) -> list[Change]:
        """The changes that still hold."""
        return changes.holding(self._tables(), changed)

    def _tables(self) -> dict[str, Any]:
        return {} if self._file is None else parse(self._file, str(self._file))[1]

    def missing_secrets(self) -> list[str]:
        """A line for each key or address that isn't set: the variable or file, and the setting that names it."""
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


def load(path: str | Path | None = None, changed: Sequence[Change] = ()) -> Settings:
    """Read the configuration: `path`, else OVERNIGHT_CONFIG, else ./overnight.toml, else the built-in defaults.

    `changed` are settings that replace those of the file, if they still hold (changes.py). Raises SettingsError with
    every problem of the file: its line, its key and what would be right.
    """
    named = path or os.environ.get("OVERNIGHT_CONFIG")
    file = Path(named or FILE_NAME).expanduser().absolute()
    if not named and not file.exists():
        return Settings.model_validate(changes.applied({}, changed)) if changed else Settings()
    shown = str(named or FILE_NAME)
    text, data = parse(file, shown)
    try:
        settings = Settings.model_validate(changes.applied(data, changed), context={"folder": file.parent})
    except ValidationError as exc:
        raise SettingsError(problems(exc, Settings, shown, text)) from None
    settings._file = file  # noqa: SLF001 - pydantic's private attributes are set after validation
    return settings
