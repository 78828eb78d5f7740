"""Fetching a file: what counts as whole, what is tried again, and from where."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from comfyreport.errors import UnreachableError
from comfyreport.protocol.downloads import CHUNK, Download, FilePlace, begun
from comfyreport.protocol.statuses import file_error
from comfyreport.saving.fetching import TRIES, fetch
from comfyreport.timing import Timing

PLACE = FilePlace("a.png", "", "output")
CONTENT = bytes(range(256)) * 1000


def reader(data: bytes) -> Callable[[int], bytes]:
    left = bytearray(data)

    def read(size: int) -> bytes:
        piece = bytes(left[:size])
        del left[:size]
        return piece

    return read


def got(data: bytes, status: int = 200, name: str = "a.png", **headers: str) -> bytes:
    """The file that a response holds."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return b"".join(begun(status, named, reader(data), name, 0).chunks)


# --- one response


@pytest.mark.parametrize("packed", [gzip.compress(CONTENT), zlib.compress(CONTENT)])
def test_compressed_though_nobody_asked(packed: bytes) -> None:
    assert got(packed, Content_Encoding="gzip") == CONTENT
    for cut in (0, 1, 10, len(packed) // 2, len(packed) - 1):
        with pytest.raises(UnreachableError) as caught:
            got(packed[:cut], Content_Encoding="GZIP")
        assert caught.value.retryable
    with pytest.raises(UnreachableError):
        got(b"junk" * 1000, Content_Encoding="gzip")


def test_packed_in_several_pieces() -> None:
    packed = gzip.compress(CONTENT) + gzip.compress(CONTENT[::-1])
    assert got(packed, Content_Encoding="gzip") == CONTENT + CONTENT[::-1]
    with pytest.raises(UnreachableError):
        got(packed[:-1], Content_Encoding="gzip")


def test_a_bomb_is_taken_in_small_pieces() -> None:
    download = begun(200, {"Content-Encoding": "gzip"}, reader(gzip.compress(bytes(50_000_000))), "a.png", 0)
    assert max(map(len, download.chunks)) <= CHUNK


@pytest.mark.parametrize("length", ["+5", "-5", "5, 5", "five", "\u0665"])
def test_a_length_that_is_none(length: str) -> None:
    with pytest.raises(UnreachableError):
        got(b"12345", Content_Length=length)


@pytest.mark.parametrize("media_type", ["text/html", "TEXT/HTML; charset=x", "application/xhtml+xml", "image/png", ""])
@pytest.mark.parametrize(
    "page",
    [
        b"<!DOCTYPE html><p>login", b"  \n<HTML>", b"<!doctype  html>", b"<head><title>", b"<body class='x'>",
        b"\xef\xbb\xbf<html>", b"<!-- a --> <!-- b --><html>", b"<?xml version='1.0'?>\n<!DOCTYPE html>",
        "\ufeff<html>".encode("utf-16-le"), "\ufeff<html>".encode("utf-16-be"),
    ],
)  # fmt: skip
def test_a_page_instead_of_a_picture(media_type: str, page: bytes) -> None:
    with pytest.raises(UnreachableError, match="web page") as caught:
        got(page, Content_Type=media_type)
    assert not caught.value.retryable
    assert got(page, name="report.HTML", Content_Type=media_type) == page
    drawing = b"<?xml version='1.0'?><!-- made by hand --><svg/>"
    assert got(drawing, name="drawing.svg", Content_Type=media_type) == drawing
    with pytest.raises(UnreachableError, match="web page"):
        got(page, name="drawing.svg", Content_Type=media_type)


@pytest.mark.parametrize("data", [b"<heading>", b"<!-- " * 800, b"<!-- a -->" * 400 + b"<!"])
def test_what_only_begins_like_a_page_is_none(data: bytes) -> None:
    assert got(data) == data


def test_nothing_where_a_file_was_promised() -> None:
    with pytest.raises(UnreachableError, match="nothing came"):
        got(b"", Content_Length="0")


@pytest.mark.parametrize("range_", ["", "bytes 5-9/10", "bytes */10", "bytes 0-x/10", "items 0-9/10"])
def test_another_part_than_was_asked_for(range_: str) -> None:
    with pytest.raises(UnreachableError, match="another part"):
        begun(206, {"Content-Range": range_}, reader(b"12345"), "a.png", 3)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 302, 410, 408, 425, 429, 500, 502, 503, 521])
def test_which_statuses_are_final(status: int) -> None:
    error = file_error(status)
    assert error.retryable == (status in (408, 425, 429) or status >= 500)
    assert f"HTTP {status}" in error.message
    assert "no ComfyUI" not in error.message


# --- several tries


class Server:
    """Gives a file in the ways that are said beforehand, one for each try."""

    def __init__(self, *ways: Callable[[int, str], Download]) -> None:
        self.timing = Timing()
        self.asked: list[tuple[int, str]] = []
        self._ways = list(ways)

    @contextlib.contextmanager
    def download(self, place: FilePlace, start: int, version: str) -> Iterator[Download]:
        self.asked.append((start, version))
        yield self._ways.pop(0)(start, version)


def breaks(
    after: int, *, ranges: bool = True, version: str = "v1", content: bytes = CONTENT
) -> Callable[[int, str], Download]:
    """Sends the file up to a byte, and breaks; what was asked for from a byte on begins there, if it does *ranges*."""

    def way(start: int, wanted: str) -> Download:
        begin = start if ranges else 0

        def chunks() -> Iterator[bytes]:
            yield from (content[at : min(at + 10_000, after)] for at in range(begin, after, 10_000))
            if after < len(content):
                raise UnreachableError("it broke", retryable=True)

        return Download(begin, len(content), version, chunks())

    return way


def refuses(status: int) -> Callable[[int, str], Download]:
    def way(start: int, wanted: str) -> Download:
        raise file_error(status)

    return way


def fetched(server: Any, pauses: list[float] | None = None) -> bytes:
    on_pause = list[float]() if pauses is None else pauses
    return b"".join(fetch(server, PLACE, pause=on_pause.append, on_size=lambda size: None))


@pytest.mark.parametrize("ranges", [True, False])
def test_it_goes_on_where_it_broke(ranges: bool) -> None:
    ways = [breaks(at, ranges=ranges) for at in (0, 25_000, 25_001, 77_777, len(CONTENT))]
    server = Server(*ways)
    assert fetched(server) == CONTENT
    assert server.asked == [(0, ""), (0, "v1"), (25_000, "v1"), (25_001, "v1"), (77_777, "v1")]


def test_tries_have_an_end_and_pauses_grow() -> None:
    server, pauses = Server(*[refuses(503)] * 20), list[float]()
    with pytest.raises(UnreachableError, match="503"):
        fetched(server, pauses)
    assert len(server.asked) == TRIES
    first = server.timing.poll_first
    assert pauses == [first, 2 * first, 4 * first]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_final(status: int) -> None:
    server = Server(*[refuses(status)] * 2)
    with pytest.raises(UnreachableError, match=str(status)):
        fetched(server)
    assert len(server.asked) == 1


def test_a_file_that_changed_meanwhile_is_not_pieced_together() -> None:
    server = Server(breaks(25_000), breaks(len(CONTENT), version="v2"))
    with pytest.raises(UnreachableError, match="changed"):
        fetched(server)


@pytest.mark.parametrize("after", [25_000, 30_000])
def test_the_same_holds_where_no_version_is_told(after: int) -> None:
    other = CONTENT[:20_000] + b"?" + CONTENT[20_001:]
    server = Server(breaks(after, version=""), breaks(len(CONTENT), ranges=False, version="", content=other))
    with pytest.raises(UnreachableError, match="changed") as caught:
        fetched(server)
    assert not caught.value.retryable
    ways = [breaks(after, ranges=False, version="") for after in (5_000, after, 20_000, len(CONTENT))]
    assert fetched(Server(*ways)) == CONTENT


def test_too_few_bytes_are_no_file() -> None:
    short = lambda start, version: Download(0, 10, "", iter([b"12345"]))  # noqa: E731
    with pytest.raises(UnreachableError, match="of 10 bytes"):
        fetched(Server(*[short] * 10))


def test_what_the_pause_or_the_size_raise_ends_it() -> None:
    def too_large(size: int) -> None:
        raise OSError(28, f"no room for {size}")

    with pytest.raises(OSError, match="no room for 256000"):
        list(fetch(Server(breaks(len(CONTENT))), PLACE, pause=lambda seconds: None, on_size=too_large))  # type: ignore[arg-type]
