"""The servers of a command, read from flags and from a file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from comfyreport.access.address import parse_address
from comfyreport.errors import UsageError
from comfyreport.jobs.simulating import SIMULATED
from comfyreport.text import printable

FILE_LIMIT = 2**20
"""Bytes of a file of servers."""

_FORM = "a server a line: HOST, HOST:PORT or http[s]://HOST[:PORT][/PREFIX]"


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
