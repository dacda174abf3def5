"""The addresses at which webhooks may be called: public ones, or any if `allow_private` is set.

A name is resolved once, and the caller connects to the address that is returned. So a name that is public when it is
checked cannot become private when it is used.
"""

import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final

#: The addresses that IANA has assigned to the internet of IPv6. Everything else is local, reserved or a translation.
_INTERNET: Final = IPv6Network("2000::/3")

#: Tunnels inside it that lead to IPv4 addresses: Teredo and 6to4.
_TUNNELS: Final = (IPv6Network("2001::/32"), IPv6Network("2002::/16"))

#: NAT64: the last 32 bits are the IPv4 address that a gateway connects to.
_NAT64: Final = IPv6Network("64:ff9b::/96")


class AddressRefused(Exception):  # noqa: N818 - says what happened
    """A webhook's address is private or unknown. The message does not contain it."""


def resolved(host: str, port: int, *, private: bool) -> str:
    """The address to connect to. AddressRefused if `host` has none, or if any is private and `private` is False."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise AddressRefused(f"its name cannot be resolved: {exc.strerror or exc}") from None
    addresses = [str(each[4][0]) for each in found]
    if not private and not all(is_public(each) for each in addresses):
        raise AddressRefused("its address is private; if that is right, set allow_private = true")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether anyone on the internet could have this IP address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        inside = _ipv4_inside(found)
        if inside is None:
            tunnel = any(found in network for network in _TUNNELS)
            return found in _INTERNET and not tunnel and found.is_global
        found = inside
    return found.is_global and not found.is_multicast


def _ipv4_inside(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a connection to `address` reaches; None if it stays in IPv6."""
    if address in _NAT64:
        return IPv4Address(address.packed[-4:])
    return address.ipv4_mapped
