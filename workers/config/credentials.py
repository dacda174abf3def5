"""Secrets, which the configuration names by reference: `env:NAME` or `file:PATH`.

`env:NAME` is the environment variable NAME. `file:PATH` is the content of a file without surrounding white space, as
Docker and Kubernetes mount secrets. A reference may be shown anywhere; its value never is.
"""

import os
from dataclasses import dataclass
from hashlib import blake2s
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit


class MissingSecretError(Exception):
    """A reference has no usable value. The message names the reference and the reason."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a value is kept: the name of an environment variable, or the path of a file."""

    source: Literal["env", "file"]
    name: str

    def __str__(self) -> str:
        return f"{self.source}:{self.name}"

    def value(self) -> str:
        """The value as it is now. Raises MissingSecretError if it is unset, empty or unreadable."""
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
            raise MissingSecretError(f"{self} contains a line break or a character that is not printable ASCII")
        return value


def reference(text: str, folder: Path) -> Reference | None:
    """`text` as a reference, None if it is a plain value. A relative PATH starts at `folder`.

    Raises ValueError for a reference without a usable name; the message doesn't repeat `text`.
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
    """32 bits of a hash, enough to notice that a key has changed; '' for no key."""
    return blake2s(key.encode(), digest_size=4, person=b"account").hexdigest() if key else ""


def without_password(url: str) -> str:
    """The URL as it may be shown: without user, password and parameters."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(not a URL)"
    return urlunsplit((parts.scheme, f"***@{host}" if "@" in parts.netloc else host, parts.path, "", ""))
