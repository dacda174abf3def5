"""Checks of answers, as a user writes them."""

from typing import Any


def invoice(answer: Any) -> str | None:
    """Valid is an answer with a positive total."""
    total = answer.json()["total"]  # no JSON: a ValueError, which means invalid, too
    return None if total > 0 else "the total must be positive"
