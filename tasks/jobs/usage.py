"""The usage that an answer reports, if it is plausible.

A provider's number is untrusted input: settled as it is, 4 billion tokens would spend a month's budget and close a
quota for weeks, for a call that used a thousand. An implausible usage is ignored, and the call is presumed to have cost
its ceiling.

The bound is generous, because a usage above it is charged less than it says. A provider may add text to a prompt (its
own instructions, search results), and a model may think longer than expected: both end at the model's context window.
A hosted tool calls its model several times within one request, and may exceed the window.
"""

import logging
from typing import Final

from limits.counting import Usage
from tasks.jobs.attempt import Attempt
from workers.models import tokens

log = logging.getLogger(__name__)

#: A usage is believed up to this multiple of its estimate's ceiling, or up to a context window if that is more.
CEILINGS: Final = 4


def believed(attempt: Attempt, reported: Usage | None) -> Usage | None:
    """The reported usage; None if it is missing, or implausible for this request, which is logged."""
    if reported is None:
        return None
    estimate, rates = attempt.estimate, attempt.route.rates
    window = max(tokens.WINDOW, (rates and rates.window) or 0)
    most_input = max(CEILINGS * estimate.input_ceiling, window)
    most_output = max(CEILINGS * estimate.output_ceiling, window)
    if reported.input <= most_input and reported.output <= most_output:
        return reported
    log.warning(
        "%s reported an implausible usage: %d input and %d output tokens (at most %d and %d); it is ignored",
        attempt.route.target,
        reported.input,
        reported.output,
        most_input,
        most_output,
    )
    return None
