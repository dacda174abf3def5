"""What follows from an answer: the job ends with it, fails with it, or keeps it and asks for a further one.

A further answer is asked for like the first: admitted, held, paid, and retried if its call fails. If it cannot be had,
because the budget is spent or the deadline has passed, the job ends with the best answer that it has, and its result
line says why.
"""

from tasks.answers import again, checks, own
from tasks.answers.checks import Checked
from tasks.jobs import kept, outcomes
from tasks.jobs.attempt import Attempt
from tasks.jobs.delivery import Delivery
from tasks.jobs.store import Outcome
from workers.providers.answer import Answer
from workers.providers.bodies import choices, output_ceiling


async def answered(delivery: Delivery, attempt: Attempt, answer: Answer) -> Outcome | None:
    """How the job ends with this answer; None if it is kept, and the job asks for a further one."""
    checked = await check(delivery, answer)
    outcome = delivery.runtime.answered(attempt, answer, checked)
    if checked is None or checked.is_right or not outcome.ok:
        return outcome
    workflow, url = delivery.workflow, delivery.job.line.url
    if workflow.on_invalid == "fail":
        return outcomes.not_valid(outcome, checked)
    before = delivery.kept
    ceiling = output_ceiling(url, attempt.body)
    step = again.next_answer(
        checked,
        workflow,
        answers=len(before.answers) + 1 if before is not None else 1,
        now=before.again if before is not None else again.Again(),
        ceiling=ceiling // choices(url, attempt.body) if ceiling else None,
    )
    if step is None:
        return outcome
    await delivery.keep(outcome, kept.keep(before, outcome, step, delivery.job.round, delivery.state))
    return None


async def check(delivery: Delivery, answer: Answer) -> Checked | None:
    """Check an answer; None for a call that an agent makes, which checks its answers itself."""
    if delivery.job.call:
        return None
    line = delivery.job.line
    found, own_check = checks.check(line.url, line.body, answer.body), delivery.workflow.check
    if own_check is None or not found.is_right:
        return found
    given = own.GivenAnswer(line.custom_id, line.url, line.body, answer.body)
    told = await own.run(own_check, delivery.runtime.settings, given)
    return found if told == checks.VALID else told
