"""Which addresses a request may be sent to. An endpoint is somebody else's wish: it must not reach what only this host
and its neighbours can."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from outwork.errors import GiveUp

_TRANSLATED: Final = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"), ip_network("::/96"))
"""IPv6 networks whose last 32 bits are an IPv4 address that a gateway goes on to."""


def resolved(host: str, port: int, allowed_networks: Iterable[str]) -> list[str]:
    """The addresses of a host, asked for once: who connects must connect to these, and not ask again (the second answer
    may be another one).

    Raises GiveUp if one of them is private and not allowed, OSError where there are none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
    for address in addresses:
        if not permitted(address, allowed_networks):
            raise GiveUp(
                f"{host} is at {address}, which is a private address. If it is meant, add its network to "
                "allowed_networks of [webhook]"
            )
    return addresses


def permitted(address: str, allowed_networks: Iterable[str]) -> bool:
    """Whether an address may be asked: it is public, with whatever IPv4 address is inside it, or it is allowed."""
    ip = ip_address(address)
    networks = [ip_network(network) for network in allowed_networks]
    return all(
        any(one in network for network in networks) or (one.is_global and not one.is_multicast)
        for one in (_inside(ip) or [ip])
    )


def _inside(ip: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """The IPv4 addresses inside an IPv6 address, to which a packet to it may go."""
    if isinstance(ip, IPv4Address):
        return []
    if ip.ipv4_mapped is not None:
        return [ip.ipv4_mapped]
    found: list[IPv4Address | IPv6Address] = []
    if ip.sixtofour is not None:
        found.append(ip.sixtofour)
    if ip.teredo is not None:
        found += ip.teredo
    if any(ip in network for network in _TRANSLATED) and int(ip) > 1:  # 1 is ::1, this host
        found.append(IPv4Address(int(ip) & 0xFFFFFFFF))
    return [*found, ip] if found else []
