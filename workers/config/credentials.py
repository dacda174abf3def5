"""What must not stand in a file: values by reference, read from the environment or a file of their own.

`env:NAME` is the environment variable NAME, `file:PATH` the content of a file, without the white space around
it (so that Docker's and Kubernetes' secrets work). A reference may be shown anywhere; its value never is.
"""

import os
from dataclasses import dataclass
from hashlib import blake2s
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit


class MissingSecretError(Exception):
    """A reference leads to nothing that could be used. The words name the reference and how to mend it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a value is kept: the name of a variable, or the path of a file."""

    source: Literal["env", "file"]
    name: str

    def __str__(self) -> str:
        return f"{self.source}:{self.name}"

    def value(self) -> str:
        """The value as it is now; MissingSecretError where it is unset, empty or unreadable."""
        if self.source == "env":
            value = os.environ.get(self.name, "").strip()
            if not value:
                raise MissingSecretError(f"the environment variable {self.name} is not set")
        else:
            try:
                value = Path(self.name).read_text(encoding="utf-8").strip()
            except UnicodeDecodeError:
                raise MissingSecretError(f"the file {self.name} is not UTF-8 text") from None
            except OSError as exc:
                raise MissingSecretError(f"the file {self.name} cannot be read: {exc.strerror}") from None
            if not value:
                raise MissingSecretError(f"the file {self.name} is empty")
        if not (value.isascii() and value.isprintable()):
            raise MissingSecretError(f"{self} holds a line break or a character that is not printable ASCII")
        return value


def reference(text: str, folder: Path) -> Reference | None:
    """The reference that `text` is, None where it is a plain value; a relative PATH starts at `folder`.

    Raises ValueError, with words that do not repeat `text`, for a reference that names nothing.
    """
    if text.startswith("env:"):
        name = text.removeprefix("env:").strip()
        if not name.replace("_", "a").isalnum() or name[0].isdigit():
            raise ValueError('must name an environment variable, as in "env:NAME"')
        return Reference("env", name)
    # A `file://` URL is a value, not a reference.
    if text.startswith("file:") and not text.startswith("file://"):
        name = text.removeprefix("file:").strip()
        if not name:
            raise ValueError('must name a file, as in "file:PATH"')
        return Reference("file", str(folder / Path(name).expanduser()))
    return None


def fingerprint(key: str) -> str:
    """What tells a key from the one before it, and nothing more: 32 bits of a hash; '' for no key."""
    return blake2s(key.encode(), digest_size=4, person=b"account").hexdigest() if key else ""


def without_password(url: str) -> str:
    """The URL as it may be shown: no user, no password, no parameters."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(not a URL)"
    return urlunsplit((parts.scheme, f"***@{host}" if "@" in parts.netloc else host, parts.path, "", ""))
