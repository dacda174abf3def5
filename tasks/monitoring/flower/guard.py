"""Who may look. Flower alone asks for nothing by default, on every interface; ours does not start like that."""

import ipaddress
from typing import Any


class Open(Exception):  # noqa: N818 - names what Flower would be
    """Flower would be open to whoever reaches its port; says what would close it."""


def check(options: Any) -> None:
    """Open unless these Flower options ask for a password or a login, or keep to this machine by explicit choice."""
    for credential in options.basic_auth or ():
        user, separator, password = credential.partition(":")
        if not (user and separator and password):
            raise Open(
                "a basic_auth entry has no password: write FLOWER_BASIC_AUTH=user:password "
                "(in compose, set FLOWER_PASSWORD)"
            )
        if not credential.isascii():
            raise Open("a basic_auth entry holds other characters than ASCII, which Flower cannot compare")
    if options.auth and not options.auth_provider:
        raise Open("auth names who may log in, but auth_provider does not say where: see Flower's documentation")
    if options.basic_auth or options.auth or options.unix_socket or is_loopback(options.address):
        return
    raise Open(
        "Flower would show everything to whoever reaches its port: set FLOWER_BASIC_AUTH=user:password, "
        "or a login (--auth and --auth-provider), or keep it to this machine with --address=127.0.0.1"
    )


def is_expected_host(options: Any, host: str) -> bool:
    """Whether a request names the host that it may have been meant for.

    Without a password, only a name of this machine's own will do: the page of another site could have a name of its
    own lead to 127.0.0.1, and read what it finds there.
    """
    if options.basic_auth or options.auth or options.unix_socket:
        return True
    return is_loopback(host.strip("[]"))


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches a port at this address. Flower's default, '', is every interface."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
