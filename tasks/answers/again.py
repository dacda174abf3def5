"""Whether a line asks again for an answer that is not valid, and how: pure decisions.

- A truncated answer is asked for again with twice its ceiling. If no ceiling was sent, the answer met the model's own
  one, and the same model would meet it again.
- The same model would refuse again, too, and so would its provider's filter: only `escalate` may do better.
- A raised ceiling may be above what a model allows. If its provider refuses it, `escalate` is asked with the line's
  own.
- The last answer that a line may have comes from `escalate`, if the workflow names such a model.
"""

from dataclasses import dataclass
from typing import Final

from tasks.answers.checks import Checked, Result
from workers.config.workflow_settings import WorkflowSettings

#: How good an answer is; of two equal ones the later one counts.
RANK: Final[dict[Result, int]] = {
    "valid": 6,
    "unchecked": 5,
    "truncated": 4,
    "invalid": 3,
    "filtered": 2,
    "refused": 1,
    "empty": 0,
}

#: Tokens: no ceiling is raised above this. What a model allows is less, but only its provider knows that.
MAX_CEILING: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Again:
    """How the next answer is asked for: by `model`, with `ceiling` tokens an answer. '' and 0 are the line's own."""

    model: str = ""
    ceiling: int = 0


def next_answer(
    checked: Checked, settings: WorkflowSettings, *, answers: int, now: Again, ceiling: int | None
) -> Again | None:
    """How to ask again after `answers` answers, of which `checked` is the last; None if the line keeps what it has.

    `now`: how that one was asked for; `ceiling`: what was sent as its ceiling.
    """
    if settings.on_invalid != "retry" or checked.is_right or answers >= settings.max_answers:
        return None
    raised, helps = now.ceiling, checked.result not in {"refused", "filtered"}
    if checked.result == "truncated":
        helps = ceiling is not None and ceiling < MAX_CEILING
        raised = min(2 * ceiling, MAX_CEILING) if ceiling is not None else 0
    escalate = settings.escalate
    if escalate and now.model != escalate and (answers + 1 == settings.max_answers or not helps):
        return Again(escalate, raised)
    return Again(now.model, raised) if helps else None


def after_refusal(now: Again, escalate: str | None) -> Again | None:
    """How to ask after a provider has refused a raised ceiling, which may be above the model's; None to ask no more."""
    if not now.ceiling or not escalate:
        return None
    return Again(escalate)
