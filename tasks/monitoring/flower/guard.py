"""Flower starts only if it is closed to strangers.

By default, it listens on every interface without a password; ours refuses to start like that.
"""

import ipaddress
from typing import Any


class Open(Exception):  # noqa: N818 - names what Flower would be
    """Anyone who reaches Flower's port could read everything. The message says how to close it."""


def check(options: Any) -> None:
    """Raise Open unless Flower's `options` ask for a password or a login, or explicitly keep it on this machine."""
    for credential in options.basic_auth or ():
        user, separator, password = credential.partition(":")
        if not (user and separator and password):
            raise Open(
                "a basic_auth entry has no password: write FLOWER_BASIC_AUTH=user:password "
                "(in compose, set FLOWER_PASSWORD)"
            )
        if not credential.isascii():
            raise Open(
                "a basic_auth entry contains characters that are not ASCII, which Flower cannot compare: use others"
            )
    if options.auth and not options.auth_provider:
        raise Open("auth names who may log in, but auth_provider is not set: see Flower's documentation")
    if options.basic_auth or options.auth or options.unix_socket or is_loopback(options.address):
        return
    raise Open(
        "anyone who reaches Flower's port could read everything: set FLOWER_BASIC_AUTH=user:password, "
        "or a login (--auth and --auth-provider), or keep it on this machine with --address=127.0.0.1"
    )


def is_expected_host(options: Any, host: str) -> bool:
    """Whether a request's `host` is a name of this machine. With a password, any name will do.

    Another site could point a name of its own at 127.0.0.1 and read what it finds there (DNS rebinding).
    """
    if options.basic_auth or options.auth or options.unix_socket:
        return True
    return is_loopback(host.strip("[]"))


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches a port at `address`. Flower's default, '', is every interface."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
