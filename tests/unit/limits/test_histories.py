"""Random histories of each kind (histories/): fifteen in `make test`, 285 more in `make test-long`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.unit.limits.histories import HISTORIES

if TYPE_CHECKING:
    import redis


@pytest.mark.parametrize("seeds", [range(15), pytest.param(range(15, 300), marks=pytest.mark.long)], ids=str)
@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.__name__)
def test_history(client: "redis.Redis", history: Callable[..., None], seeds: range) -> None:
    for seed in seeds:
        try:
            history(client, seed)
        except AssertionError as error:
            error.add_note(f"{history.__name__}, seed {seed}")
            raise
