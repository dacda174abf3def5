"""The usage that an answer tells, as far as it can be true.

A provider's number is hostile like any other input: settled as it stands, 4 billion tokens would spend a month's budget
and shut a quota for weeks, for a call that can have used a thousand. What cannot be counts as not told, and the call
as presumed, at its ceiling.

The bound is generous, since what it turns down is charged less than it says. A provider may add to a prompt what
nobody here sees (its own instructions, what a search has found), and a model may think for longer than was expected of
it: both end at the model's context window. A hosted tool calls its model several times within one request, and so goes
beyond it.
"""

import logging
from typing import Final

from limits.counting import Usage
from tasks.jobs.attempt import Attempt
from workers.models import tokens

log = logging.getLogger(__name__)

#: A usage is believed up to so many times the ceiling of its estimate, or up to a context window where that is more.
CEILINGS: Final = 4


def believed(attempt: Attempt, told: Usage | None) -> Usage | None:
    """What was told, None where it can be no usage of the attempt's request: that is logged."""
    if told is None:
        return None
    estimate, rates = attempt.estimate, attempt.route.rates
    window = max(tokens.WINDOW, (rates and rates.window) or 0)
    most_input = max(CEILINGS * estimate.input_ceiling, window)
    most_output = max(CEILINGS * estimate.output_ceiling, window)
    if told.input <= most_input and told.output <= most_output:
        return told
    log.warning(
        "%s told a usage that cannot be: %d input and %d output tokens, of %d and %d at the most; it counts as untold",
        attempt.route.target,
        told.input,
        told.output,
        most_input,
        most_output,
    )
    return None
