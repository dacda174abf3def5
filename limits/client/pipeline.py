"""Commands that wait for their replies, and those that go to the server as one.

A script that takes several asks decides on each in turn, in one step: what they have in common is read and written
once. Most of what a call costs the server is that.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from limits.client.scripts import Call

if TYPE_CHECKING:
    import asyncio

Argument = str | bytes | int | float

MOST_JOINED: Final = 32
"""Calls in one: a server does nothing else meanwhile, for a few milliseconds at most."""


class Pending:
    """A command that waits for its reply. `written` tells since when, in the loop's seconds; `alone`: it may not be
    joined, since a command with others has failed.
    """

    __slots__ = ("alone", "call", "command", "deadline", "future", "written")

    def __init__(
        self,
        command: tuple[Argument, ...],
        call: Call[Any] | None,
        deadline: float,
        future: "asyncio.Future[Any]",
    ) -> None:
        self.command = command
        self.call = call
        self.deadline = deadline
        self.future = future
        self.written = 0.0
        self.alone = call is None or not call.joins


def groups(batch: Iterable[Pending]) -> list[list[Pending]]:
    """Those that go as one, in the order in which the first of each was asked.

    A group is of one script with the same keys at the same time, which differs in tests only.
    """
    found: list[list[Pending]] = []
    open_groups: dict[Any, list[Pending]] = {}
    for pending in batch:
        if pending.alone or pending.call is None:
            found.append([pending])
            continue
        call = pending.call
        key = (call.script.sha, call.keys, call.args[0])
        group = open_groups.get(key)
        if group is None or len(group) == MOST_JOINED:
            open_groups[key] = group = []
            found.append(group)
        group.append(pending)
    return found


def command_of(group: list[Pending]) -> tuple[Argument, ...]:
    """What is sent for a group."""
    first = group[0]
    if len(group) == 1:
        return first.command
    return (*first.command, *(each.command[-1] for each in group[1:]))
