"""Unique identifiers without a system call for each.

`uuid4` reads 16 bytes from the kernel and releases the interpreter lock for it. In a process with several busy threads
another thread then takes the lock, and the caller waits. These come from a generator that the kernel seeds once. They
are names, not secrets.
"""

import os
import random
from uuid import UUID

_numbers = random.Random()  # seeded by the kernel
os.register_at_fork(after_in_child=_numbers.seed)


def unique_id() -> str:
    """32 hexadecimal digits, 128 random bits."""
    return f"{_numbers.getrandbits(128):032x}"


def unique_uuid() -> str:
    """The same as a UUID of version 4, like Celery's task ids."""
    return str(UUID(int=_numbers.getrandbits(128), version=4))
