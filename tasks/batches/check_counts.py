"""What the checks of a batch's answers have found, for people: in status, in summaries and in Flower."""

from tasks.answers.checks import NOT_VALID
from tasks.batches.batch import Batch


def words(batch: Batch) -> str:
    """How many answers are not what their lines asked for, by what is wrong; '' if none is."""
    counts = batch.check_counts
    return ", ".join(f"{counts[name]:,} {name}" for name in (*NOT_VALID, "unchecked") if counts.get(name))
