"""One job's way, from its delivery to its result.

    begin ─► admit ─► call ─► answered ─► finish      one attempt, the usual case
               │        └─► settle ─► again            a failure that another attempt may fix
               └─► snooze                              denied for long: back to the queue, no attempt spent

admit    plans the attempt (planning.py) and asks for its quota and money; a job waits here (admission.py, waitlist.py)
call     holds back this worker's other calls at once if it brings a 429 (calling.py)
settle   replaces the held money and quota by what the call has cost, and pauses the model after a 429 (settling.py)
finish   does the same for the last call, in one step with the job's result

A job is finished once, and its message is acknowledged only after that (messages.py). An agent's job makes many calls,
each of which goes through `attempts`, too (tasks/agents).
"""

from typing import Any, Final

from tasks.jobs import admission, further, prompt_cache, runners
from tasks.jobs.delivery import Delivery
from tasks.jobs.reserving import Revoked
from tasks.jobs.retry import Fail, Failed
from tasks.jobs.stops import Stopped
from tasks.jobs.store import Outcome
from workers.models.routing import NotConfigured
from workers.providers.errors import ProviderError


async def run(delivery: Delivery) -> dict[str, Any] | None:
    """Run the job unless it has ended or runs elsewhere. Returns its result line; None if it has none to return."""
    begun = await admission.begin(delivery)
    match begun.verdict:
        case "held":
            raise delivery.snooze(begun.wait, "another delivery of this job is running")
        case "done":
            return begun.answer
        case "stopped" | "stale" | "gone":
            return None
        case "refused":
            return delivery.refused()
    try:
        async with delivery.runtime.leases.held(delivery.job, delivery.state.owner):
            return await runners.of_kind(delivery.job.line.kind)(delivery, attempts)
    except NotConfigured as missing:
        await admission.other_configuration(delivery, missing)
    except Stopped:
        return None  # the lease is given up, and the batch ends this line with its other lines


async def call_once(delivery: Delivery, attempts: runners.Attempts) -> dict[str, Any] | None:
    """Run a job that is one call to a model."""
    async with prompt_cache.turn(delivery):
        outcome = await attempts(delivery)
    return await delivery.finish(outcome)


runners.register("call", call_once)

#: Why a job that keeps an answer gets no further one.
STOPPED: Final = Fail("batch_stopped", "the batch was stopped before a further answer came")


async def attempts(delivery: Delivery) -> Outcome:
    """Call until there is an answer or a final failure. Raises Snooze if the job must wait in its queue."""
    runtime = delivery.runtime
    while True:
        try:
            attempt = await admission.admit(delivery)  # waits here, or raises Snooze or Failed
            answer = await runtime.call(attempt)
        except Failed as failed:
            return delivery.ended(failed.fail)
        except Stopped:
            if delivery.kept is None:
                raise
            return delivery.ended(STOPPED)
        except Revoked:
            continue  # a pause began before the request was written
        except ProviderError as error:
            fail = await delivery.failed(attempt, error)
            if fail is not None and not delivery.goes_on_after(error):
                return runtime.failed(attempt, error, fail)
            await runtime.settle(attempt, error)
            if error.code == "time_limit":  # Celery's, of the whole delivery
                raise delivery.snooze(delivery.not_before_in(attempt.route.target), f"{error}") from None
        else:
            await prompt_cache.answered(delivery, attempt)
            if (outcome := await further.answered(delivery, attempt, answer)) is not None:
                return outcome
            # the answer is kept, and the job asks for a further one
