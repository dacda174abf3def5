"""What the further answers of a line can cost at most (tasks/answers/again.py)."""

from collections.abc import Iterable
from dataclasses import replace

from limits.counting import Estimate
from tasks.answers.again import MAX_CEILING
from workers.models.routing import Route


def most(answers: int, routes: Iterable[Route], estimate: Estimate) -> int:
    """n$ if each answer is truncated, so that the next one has twice the room, at the most expensive route."""
    rates = [route.rates for route in routes if route.rates is not None]
    raised = (min(estimate.output_ceiling << number, MAX_CEILING) for number in range(1, answers))
    rooms = [replace(estimate, output_ceiling=max(each, estimate.output_ceiling)) for each in raised]
    return sum(max((each.ceiling(room) for each in rates), default=0) for room in rooms)
