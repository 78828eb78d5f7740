"""Whether two addresses lead to the same server: by how they are written, and by what their names stand for."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from comfyreport.access.address import Address
from comfyreport.errors import UsageError
from comfyreport.net.resolving import addresses_of
from comfyreport.text import printable
from comfyreport.timing import Timing

Resolver = Callable[[str, int], frozenset[str]]
"""What gives the addresses of a host's name, none where they aren't known. It may block."""

# One address serves many hosts there, told apart by their names.
_SHARED_PORTS = (80, 443)


class _Place(NamedTuple):
    """What two servers that are one have in common, beside the host."""

    port: int
    prefix: str


def check_apart(
    addresses: Iterable[Address], *, resolve: Resolver = addresses_of, limit: float = Timing.connect_timeout
) -> None:
    """UsageError where two of *addresses* are those of the same server; it names both.

    They are where host, port and path are, whatever the scheme and the credentials; `localhost` is 127.0.0.1 and ::1.
    Two names are one host where they have an address in common, but on the ports 80 and 443. Blocks.

    :param limit: seconds for all names to be resolved; those that aren't by then are taken for different ones.
    """
    seen: dict[tuple[_Place, str], Address] = {}
    for address in addresses:
        _need_apart(seen, (_place_of(address), _host_of(address)), address)
    hosts: dict[_Place, dict[str, Address]] = {}
    for (place, host), address in seen.items():
        if place.port not in _SHARED_PORTS:
            hosts.setdefault(place, {})[host] = address
    shared = {place: several for place, several in hosts.items() if len(several) > 1}
    names = {(host, place.port) for place, several in shared.items() for host in several if not _is_literal(host)}
    found = _resolved(names, resolve, limit)
    by_address: dict[tuple[_Place, str], Address] = {}
    for place, several in shared.items():
        for host, address in several.items():
            for one in {_canonical(each) for each in found.get((host, place.port), {host})}:
                _need_apart(by_address, (place, one), address)


def _need_apart(seen: dict[tuple[_Place, str], Address], key: tuple[_Place, str], address: Address) -> None:
    other = seen.setdefault(key, address)
    if other is not address:
        raise UsageError(
            f"two servers are the same one: {printable(other.base, 200)} and {printable(address.base, 200)}",
            hint="name each server once",
        )


def _place_of(address: Address) -> _Place:
    return _Place(address.place[1], address.prefix)


def _host_of(address: Address) -> str:
    """The host in one form for all that are written differently."""
    host = _canonical(address.place[0].lower().rstrip("."))
    return "localhost" if address.loopback and not _is_literal(host) else host


def _canonical(host: str) -> str:
    """An address in its shortest form, and one for this machine; a name as it is."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    mapped = getattr(address, "ipv4_mapped", None)
    address = address if mapped is None else mapped
    # Another address of this machine, such as 127.0.0.2, may have a server of its own.
    return "localhost" if address.is_unspecified or str(address) in ("127.0.0.1", "::1") else str(address)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _resolved(
    names: Iterable[tuple[str, int]], resolve: Resolver, limit: float
) -> Mapping[tuple[str, int], frozenset[str]]:
    """The addresses of *names*, looked up side by side; without those that take longer than *limit* seconds in all."""
    found: dict[tuple[str, int], frozenset[str]] = {}

    def look_up(name: tuple[str, int]) -> None:
        found[name] = resolve(*name)

    # A resolver can't be stopped: whoever takes too long is left behind.
    threads = [threading.Thread(target=look_up, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    until = time.monotonic() + limit
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return {name: addresses for name, addresses in found.copy().items() if addresses}
