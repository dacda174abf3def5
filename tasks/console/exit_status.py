"""Exit statuses, and the message for each error that a user can fix.

Data goes to stdout, everything for a person to stderr.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

import redis
import typer

from limits.client.replies import server_words
from limits.errors import LimitsError, NotPermitted, ServerUnavailable
from tasks.batches.batch import Batch
from tasks.batches.input import InputError
from tasks.console import view
from tasks.jobs.storage import StorageError
from workers.config.settings import SettingsError
from workers.embedded import ServerError

#: All jobs succeeded.
SUCCEEDED: Final = 0

#: Some jobs failed.
SOME_FAILED: Final = 1

#: The input, the configuration or the command is wrong.
WRONG: Final = 2

#: The Redis server is unreachable.
UNREACHABLE: Final = 3

#: A batch waits after its pilot.
AFTER_PILOT: Final = 4

#: Stopped by Ctrl-C, as shells report it: 128 + SIGINT.
INTERRUPTED: Final = 130


def outcome(batch: Batch) -> int:
    """The exit status for a batch that has ended."""
    return SUCCEEDED if batch.status == "completed" and not batch.failed else SOME_FAILED


def fail(words: str, code: int = WRONG) -> NoReturn:
    """End the command with an error message and the exit status `code`."""
    view.error(words)
    raise typer.Exit(code)


@contextmanager
def errors_reported() -> Iterator[None]:
    """Turn an error that a user can fix into a message and an exit status; any other keeps its traceback."""
    try:
        yield
    except (InputError, SettingsError) as exc:
        fail(str(exc))
    except StorageError as exc:
        fail(str(exc))
    except NotPermitted as exc:
        fail(str(exc), UNREACHABLE)
    except (ServerUnavailable, ServerError, redis.ConnectionError, redis.TimeoutError) as exc:
        fail(f"the Redis server is unreachable: {exc}", UNREACHABLE)
    except redis.RedisError as exc:
        fail(f"the Redis server refuses a command: {server_words(exc)}", UNREACHABLE)
    except LimitsError as exc:
        fail(str(exc), UNREACHABLE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(SUCCEEDED) from None
    except OSError as exc:
        fail(f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc))
