"""Fetching one file, though its connection may break: a few spaced tries, each from where the one before ended."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator, Iterator

from comfyreport.errors import UnreachableError
from comfyreport.net.client import Client
from comfyreport.protocol.downloads import Download, FilePlace, failed

TRIES = 4
"""In a row without a byte that is new."""


def fetch(
    client: Client, place: FilePlace, *, pause: Callable[[float], None], on_size: Callable[[int], None]
) -> Generator[bytes, None, None]:
    """The chunks of the file at *place* . Raises UnreachableError in the end.

    :param pause: waits for so many seconds; what it raises ends the fetching.
    :param on_size: is given the file's size, where that is known, before the first chunk; what it raises does too.
    """
    received, version, tries, checksum = 0, "", 0, 0
    size: int | None = None
    while True:
        before = received
        try:
            with client.download(place, received, version) as download:
                if received and (download.size, download.version) != (size, version):
                    raise _changed()
                size, version = download.size, download.version
                if not received and size is not None:
                    on_size(size)
                for chunk in _behind(received, checksum, download):
                    received += len(chunk)
                    # Where the server names no version of a file, its bytes must tell whether it is the same.
                    checksum = checksum if version else zlib.crc32(chunk, checksum)
                    yield chunk
                if size is not None and received != size:
                    raise failed(f"{received} of {size} bytes came")
                return
        except UnreachableError as error:
            tries = 1 if received > before else tries + 1
            if not error.retryable or tries >= TRIES:
                raise
        pause(client.timing.poll_first * 2 ** (tries - 1))


def _behind(received: int, checksum: int, download: Download) -> Iterator[bytes]:
    """What of *download* lies behind the first *received* bytes, of that *checksum*: a server may begin anew."""
    known, found = received - download.start, 0
    for chunk in download.chunks:
        if known > 0 and not download.version:
            found = zlib.crc32(chunk[:known], found)
            if known <= len(chunk) and found != checksum:
                raise _changed()
        yield chunk[known:] if known > 0 else chunk
        known -= len(chunk)


def _changed() -> UnreachableError:
    return failed("it changed while it was fetched", retryable=False)
