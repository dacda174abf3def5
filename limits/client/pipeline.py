"""Commands that wait for their replies, and how several calls of one script are sent as one.

A script that takes several asks decides on each in turn, in one step, and reads and writes what they share only once.
That is most of what a call costs the server.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from limits.client.scripts import Call

if TYPE_CHECKING:
    import asyncio

Argument = str | bytes | int | float

MOST_JOINED: Final = 32
"""Calls in one command. A server does nothing else while it runs it, for a few milliseconds at most."""


class Pending:
    """A command that waits for its reply.

    - `deadline`, `written`: when it fails, and when it was last written (monotonic seconds).
    - `alone`: it must not be joined, because it failed together with others.
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

    @property
    def name(self) -> str:
        """The script's or the command's, for messages."""
        return self.call.script.name if self.call else str(self.command[0])


def groups(batch: Iterable[Pending]) -> list[list[Pending]]:
    """Group the commands that are sent as one, in the order in which each group's first was asked.

    A group has one script, the same keys and the same time (which only differs in tests).
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
    """The one command that is sent for a group."""
    first = group[0]
    if len(group) == 1:
        return first.command
    return (*first.command, *(each.command[-1] for each in group[1:]))
