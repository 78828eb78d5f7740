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

_PAGE = re.compile(rb"\s*(<!doctype\s+html|<html)", re.IGNORECASE)
_MARKUP = (".html", ".htm", ".xhtml", ".xml", ".svg")


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
        chunks = _no_page(chunks, headers.get("Content-Type", ""))
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
            try:
                yield decoder.decompress(chunk, CHUNK)
            except zlib.error as error:
                raise failed(f"its compression ({encoding[:20]}) can't be undone") from error
            chunk = decoder.unconsumed_tail
    if not decoder.eof:
        raise failed("its compressed data ended early")


def _no_page(chunks: Iterator[bytes], media_type: str) -> Iterator[bytes]:
    for number, chunk in enumerate(chunks):
        if number == 0 and ("html" in media_type.lower() or _PAGE.match(chunk)):
            raise failed("a web page came instead: this looks like a login page", retryable=False)
        yield chunk


def _some(chunks: Iterator[bytes]) -> Iterator[bytes]:
    empty = True
    for chunk in chunks:
        empty = empty and not chunk
        yield chunk
    if empty:
        raise failed("nothing came")
