"""`[workflows.NAME]` of `overnight.toml`: a budget, a share of the workers, and limits for each job."""

from typing import Literal

from pydantic import Field

from workers.config import fields, units
from workers.config.fields import Count, CountOrZero, Dollars, ModelName, Seconds, TimeZone, Weight
from workers.config.provider_settings import Table


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
    lanes: fields.Lanes = ("live",)
    """What may carry its jobs: the Batch API, the flex tier, live calls."""
    dedupe: bool = Field(default=False, strict=True)
    """Whether equal lines of a batch are asked once."""
    prompt_cache: bool = Field(default=False, strict=True)
    """Whether its calls go out so that providers' prompt caches serve them."""
    batch_min_time: Seconds = 1_800.0
    """Seconds that a provider batch must have until its latest moment; with less, its jobs go live."""
    priority: Literal["batch", "urgent"] = "batch"
    default_max_tokens: Count | None = None
    check: fields.FunctionName | None = None
    """A check of its own for each answer: module:function."""
    on_invalid: Literal["keep", "retry", "fail"] = "keep"
    """What follows from an answer that is not valid: it is the result, another is asked for, or the job fails."""
    max_answers: fields.Answers = 2
    """With `retry`: how many answers a line may have."""
    escalate: ModelName | None = None
    """With `retry`: the model of the last answer."""
    agents: tuple[fields.AgentName, ...] | None = None
    """The agents that its jobs may call. None means all, unless another workflow lists agents."""
    max_usd: Dollars | None = None
    max_calls: Count | None = None
    max_seconds: Seconds | None = None

    @property
    def budget_nano(self) -> int | None:
        """The budget in nano-dollars."""
        return None if self.budget_usd is None else units.nanodollars(self.budget_usd)

    def cheaper_than(self, model: str) -> str | None:
        """The model to fall back to when no budget can pay for `model`; None if there is no fallback."""
        falls = self.when_exhausted == "fallback" and self.fallback != model
        return self.fallback if falls else None

    @property
    def max_nano(self) -> int | None:
        """The cap of one agent's job, in nano-dollars."""
        return None if self.max_usd is None else units.nanodollars(self.max_usd)
