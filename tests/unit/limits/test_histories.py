"""Two hundred random histories of each kind, as histories/ describes them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.unit.limits.histories import HISTORIES

if TYPE_CHECKING:
    import redis

SEEDS = 200


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.__name__)
def test_history(client: "redis.Redis", history: Callable[..., None]) -> None:
    for seed in range(SEEDS):
        try:
            history(client, seed)
        except AssertionError as error:
            error.add_note(f"{history.__name__}, seed {seed}")
            raise
