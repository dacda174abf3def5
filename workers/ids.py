"""Identifiers that no other process makes, without a question to the kernel for each.

`uuid4` reads 16 bytes from the kernel and lets go of the interpreter for it; in a process with several busy threads
the next one takes it, and the caller waits. These are drawn from a generator that was seeded by the kernel once. They
name things; they are no secrets.
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
    """As above in the form of a UUID of version 4, as task ids have it."""
    return str(UUID(int=_numbers.getrandbits(128), version=4))
