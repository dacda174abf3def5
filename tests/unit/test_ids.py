"""Identifiers are distinct, well-formed, and different in a forked child."""

import os
from uuid import UUID

from workers.ids import unique_id, unique_uuid


def test_ids_are_distinct_and_of_full_length() -> None:
    drawn = {unique_id() for _ in range(10_000)}
    assert len(drawn) == 10_000
    assert all(len(each) == 32 and int(each, 16) >= 0 for each in drawn)


def test_a_task_id_is_a_uuid_of_version_4() -> None:
    assert {UUID(unique_uuid()).version for _ in range(100)} == {4}


def test_a_forked_child_draws_different_ids() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, unique_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 64).decode() != unique_id()
