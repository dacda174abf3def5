"""Broken Lua is noticed: each mutation fails the history that it names, within a few dozen seeds."""

from typing import TYPE_CHECKING

import pytest

from tests.unit.limits.histories import HISTORIES
from tests.unit.limits.mutations import Mutation, all_mutations

if TYPE_CHECKING:
    import redis

SEEDS = 60
MUTATIONS = {mutation.name: mutation for mutation in all_mutations()}


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_mutation(client: "redis.Redis", mutation: Mutation) -> None:
    history = next(history for history in HISTORIES if history.__name__ == mutation.history)
    scripts = mutation.scripts()
    for seed in range(SEEDS):
        try:
            history(client, seed, scripts)
        except AssertionError:
            return
    pytest.fail(f"{SEEDS} histories have not noticed it")
