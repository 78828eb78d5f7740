"""A file that comes over HTTP: whole, or an error; what it is recognised by, so that it can be continued. Pure."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from comfyreport.errors import UnreachableError

CHUNK = 64 * 1024
"""Bytes that are taken at once."""

# What stands before a page's first tag, in any order; each kind ends in one way only, whatever a server sends.
_PREFACE = r"(?:\s|<\?xml[^>]*>|<!--(?:(?!-->).)*-->)*"
_PAGE = re.compile(rf"{_PREFACE}<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_MARKUP = (".html", ".htm", ".xhtml", ".xml")
_PAGE_BYTES = 4096
"""Bytes in which a web page shows what it is."""


class FilePlace(NamedTuple):
    """Where a server keeps a file; `folder` is output, temp or input."""

    filename: str
    subfolder: str
    folder: str


class Download(NamedTuple):
    """The bytes of a file from *start* on; it has *size* in all, where that is known. *version*: its validator."""

    start: int
    size: int | None
    version: str
    chunks: Iterator[bytes]


def begun(
    status: int, headers: Mapping[str, str], read: Callable[[int], bytes], filename: str, wanted: int
) -> Download:
    """The download that a response begins, whose status is good.

    :param headers: by names that are compared without case.
    :param read: gives up to so many bytes of the body as it comes, none at its end.
    :param wanted: from which byte on the file was asked for.
    """
    length, encoding = headers.get("Content-Length", ""), headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", "gzip", "deflate"):
        raise failed(f"it is compressed in a way that wasn't asked for ({encoding[:20]})", retryable=False)
    if length and not (length.isascii() and length.isdigit()):
        raise failed(f"its length is told as {length[:20]!r}")
    size = int(length) if length and encoding == "identity" else None
    part = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", "")) if status == 206 else None
    if status == 206 and (part is None or int(part[1]) != wanted):
        raise failed("another part came than was asked for")
    start, size = (wanted, int(part[2])) if part else (0, size)
    chunks = _chunks(read, encoding)
    if not filename.lower().endswith(_MARKUP):
        # A drawing is markup too, which servers may call a page.
        is_drawing = filename.lower().endswith(".svg")
        chunks = _no_page(chunks, "" if is_drawing else headers.get("Content-Type", ""))
    version = headers.get("ETag", "") if not headers.get("ETag", "").startswith("W/") else ""
    return Download(start, size, version or headers.get("Last-Modified", ""), _some(chunks))


def failed(reason: str, *, retryable: bool = True) -> UnreachableError:
    """A download that failed; *retryable*: trying again can help."""
    return UnreachableError(reason, code="download_failed", retryable=retryable)


def _chunks(read: Callable[[int], bytes], encoding: str) -> Iterator[bytes]:
    raw = iter(partial(read, CHUNK), b"")
    if encoding == "identity":
        yield from raw
        return
    # Nobody asked for it. It says itself where it ends, which urllib3 doesn't look at.
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
    for chunk in raw:
        while chunk:
            if decoder.eof:
                # Several such files behind one another are one (RFC 1952, 2.2).
                decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
            try:
                yield decoder.decompress(chunk, CHUNK)
            except zlib.error as error:
                raise failed(f"its compression ({encoding[:20]}) can't be undone") from error
            chunk = decoder.unconsumed_tail or decoder.unused_data
    if not decoder.eof:
        raise failed("its compressed data ended early")


def _no_page(chunks: Iterator[bytes], media_type: str) -> Iterator[bytes]:
    for number, chunk in enumerate(chunks):
        if number == 0 and ("html" in media_type.lower() or _is_page(chunk[:_PAGE_BYTES])):
            raise failed("a web page came instead: this looks like a login page", retryable=False)
        yield chunk


def _is_page(beginning: bytes) -> bool:
    encoding = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(beginning[:2], "utf-8")
    return _PAGE.match(beginning.decode(encoding, "replace").lstrip("\ufeff")) is not None


def _some(chunks: Iterator[bytes]) -> Iterator[bytes]:
    empty = True
    for chunk in chunks:
        empty = empty and not chunk
        yield chunk
    if empty:
        raise failed("nothing came")
