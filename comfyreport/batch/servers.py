"""The servers of a command: read from flags and from a file, and no two of them the same."""

from __future__ import annotations

import ipaddress
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from comfyreport.access.address import Address, parse_address
from comfyreport.errors import UsageError
from comfyreport.jobs.simulating import SIMULATED
from comfyreport.net.resolving import addresses_of
from comfyreport.text import printable
from comfyreport.timing import Timing

FILE_LIMIT = 2**20
"""Bytes of a file of servers."""

Resolver = Callable[[str, int], frozenset[str]]
"""What gives the addresses of a host's name, none where they aren't known. It may block."""

# One address serves many hosts there, told apart by their names.
_SHARED_PORTS = (80, 443)
_FORM = "a server a line: HOST, HOST:PORT or http[s]://HOST[:PORT][/PREFIX]"


class _Place(NamedTuple):
    """What two servers that are one have in common, beside the host."""

    port: int
    prefix: str


def read_servers(
    texts: Sequence[str], file: str | os.PathLike[str] | None = None, *, folder: str = ""
) -> tuple[str, ...]:
    """The servers that are named: *texts* (`--server`), then the lines of *file* (`--servers`). UsageError if wrong.

    In the file `#` begins a comment, at the start of a line or behind a space. Not a single server is an error, and so
    is `sim` beside another.
    """
    for text in texts:
        _check(text)
    named = (*texts, *(() if file is None else _lines(file, folder)))
    if not named:
        where = "" if file is None else f": --servers {printable(os.fspath(file), 200)} names none"
        raise UsageError(f"there is no server{where}", hint=_FORM)
    if SIMULATED in named and len(named) > 1:
        raise UsageError(
            f"--server {SIMULATED} is for one server that is simulated, and there are {len(named)} servers",
            hint="start as many as you need with: comfyreport simulate --port N",
        )
    return named


def check_apart(
    servers: Iterable[str], *, resolve: Resolver = addresses_of, limit: float = Timing.connect_timeout
) -> None:
    """UsageError where two of *servers*, as `read_servers` gives them, are the same one; it names both.

    They are where host, port and path are, whatever the scheme and the credentials; `localhost` is 127.0.0.1 and ::1.
    Two names are one host where they have an address in common, but on the ports 80 and 443. Blocks.

    :param limit: seconds for all names to be resolved; those that aren't by then are taken for different ones.
    """
    addresses = [parse_address(text) for text in servers if text != SIMULATED]
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


# --- a file of servers


def _lines(file: str | os.PathLike[str], folder: str) -> Iterator[str]:
    shown = printable(os.fspath(file), 200) or '""'
    for number, line in enumerate(_read(os.path.join(folder, file), shown).splitlines(), 1):
        text = _without_comment(line)
        if text:
            try:
                _check(text)
            except UsageError as error:
                reason = error.message.removeprefix("--server ")
                raise UsageError(f"--servers {shown}, line {number}: {reason}", hint=error.hint) from None
            yield text


def _without_comment(line: str) -> str:
    """What of *line* is no comment: a `#` elsewhere than behind a space may be a part of a password."""
    before = line.strip()
    for start in (" #", "\t#"):
        before = f" {before}".partition(start)[0].strip()
    return before


def _read(path: str, shown: str) -> str:
    try:
        with open(path, "rb") as opened:
            data = opened.read(FILE_LIMIT + 1)
        text = data[:FILE_LIMIT].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"--servers {shown} isn't UTF-8 text (byte {error.start})", hint=_FORM) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--servers {shown} can't be read: {reason}", hint=f"name a file with {_FORM}") from None
    if len(data) > FILE_LIMIT:
        raise UsageError(
            f"--servers {shown} is larger than {FILE_LIMIT // 2**20} MiB", hint=f"name a file with {_FORM}"
        )
    return text


def _check(text: str) -> None:
    """UsageError where *text* is no server."""
    if text != SIMULATED:
        address = parse_address(text)
        try:
            address.place  # noqa: B018  there are names that can't be
        except UnicodeError:
            raise UsageError(
                f"--server {printable(address.base, 200)}: there can be no such host", hint=_FORM
            ) from None
