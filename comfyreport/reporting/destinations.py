"""Where reporters write: checked and claimed before anything is opened, then opened before anything is submitted."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from comfyreport.errors import ReporterError
from comfyreport.files import (
    STDERR,
    STDOUT,
    Claims,
    FileUsedTwiceError,
    Place,
    current_folder,
    expanded,
    is_fifo,
    is_null,
    open_to_write,
    patiently,
    resolve,
)
from comfyreport.reporting.signature import Signature
from comfyreport.reporting.streams import Stream

_STDERR = Place("stderr", f"/dev/fd/{STDERR}", descriptor=STDERR)

Opened = tuple[Stream | None, object]
"""The stream to close at the end, and the factory's first argument (None: it has none, or its default)."""


class StandardStreams(NamedTuple):
    """The standard streams as the command holds them."""

    stdout: Stream
    stderr: Stream

    def stream(self, place: Place) -> Stream | None:
        """The one that *place* leads to, if it does."""
        return {STDOUT: self.stdout, STDERR: self.stderr}.get(place.descriptor or 0)

    def locate(self, place: Place) -> Place:
        """*place* where it is now: the command moves its standard streams, so that no stray print gets there.

        OSError where a stream has no descriptor, as in a notebook.
        """
        stream = self.stream(place)
        return place if stream is None else place.at(stream.file.fileno())


class Destinations:
    """The destinations of one command's reporters, as seen from the current folder at its start."""

    def __init__(self, streams: StandardStreams, claims: Claims) -> None:
        self.claims = claims
        self._streams = streams
        self._folder = current_folder()

    def plan(self, spec: str, name: str, dest: str | None, signature: Signature) -> Callable[[], Opened | None]:
        """Claim the destination *dest* of the reporter *name*; what opens it. ReporterError.

        It opens nothing, and returns None, where another reporter wanted the same file.
        """
        if signature.destination == "none":
            if dest is not None:
                raise ReporterError(f"reporter {name} takes no destination", hint=f"--reporter {name}")
            return lambda: (None, None)
        kind = kind_of(signature)
        if dest == "":
            raise ReporterError(f"reporter {name}: the destination is empty", hint=f"--reporter {name}={kind}")
        if dest is None and signature.required:
            what = "a URL" if kind == "URL" else "a destination"
            raise ReporterError(f"reporter {name} needs {what}", hint=f"--reporter {name}={kind}")
        if signature.destination == "stream":
            return self._plan_stream(spec, name, dest, signature.default)
        if signature.destination == "url":
            return lambda: (None, dest)
        if dest is None:
            dest = os.fspath(signature.default)
        if dest in ("-", "stderr"):
            raise ReporterError(f"reporter {name} writes to a file, not to {dest}", hint=f"--reporter {name}=PATH")
        folder = signature.parameter == "folder"
        return self._plan_path(name, dest, lambda place: self._checked(place, name, folder=folder), numbered=not folder)

    def beside(self, spec: str, signature: Signature) -> dict[str, Stream]:
        """The command's own streams, for the parameters of a reporter that has them beside its destination."""
        streams = {"stdout": self._streams.stdout, "stderr": self._streams.stderr}
        return {name: streams.get(default.name, default).beside(spec) for name, default in signature.streams.items()}

    def _plan_stream(self, spec: str, name: str, dest: str | None, default: object) -> Callable[[], Opened | None]:
        if dest is None:
            assert isinstance(default, Stream)
            if default.name not in ("stdout", "stderr"):
                return lambda: (default, default)
            dest = "-" if default.name == "stdout" else "stderr"

        def opened(place: Place) -> Opened:
            stream = self._open(place, name)
            stream.owner = spec
            return stream, stream

        return self._plan_path(name, dest, opened)

    def _plan_path(
        self, name: str, dest: str, opened: Callable[[Place], Opened], *, numbered: bool = False
    ) -> Callable[[], Opened | None]:
        try:
            place = _STDERR if dest == "stderr" else resolve(expanded(dest), self._folder)
        except (OSError, ValueError) as error:
            raise _unwritable(dest, name, error) from error
        # Whoever opens its file itself may rename it, as logs are.
        self._claim(place, name, numbered=numbered)

        def open_place() -> Opened | None:
            if place.descriptor is None and self.claims.is_disputed(place):
                return None
            try:
                if place.descriptor is None:
                    Path(place.path).parent.mkdir(parents=True, exist_ok=True)
                return opened(place)
            except (OSError, ValueError) as error:
                self.claims.release(place)
                raise _unwritable(place.shown, name, error) from error

        return open_place

    def _open(self, place: Place, name: str) -> Stream:
        standard = self._streams.stream(place)
        if standard is not None:
            return standard
        stream = Stream.to_path(place.path, like=self._streams.stderr)
        stream.name = place.shown
        return stream

    def _checked(self, place: Place, name: str, *, folder: bool) -> Opened:
        """The path for a reporter that opens it itself, once it is sure that it can; it may be a *folder*."""
        path = Path(self._streams.locate(place).path)
        if is_fifo(path) and place.descriptor is None:
            # Kept open until the reporter is closed: after a mere check, the FIFO's reader would see its end.
            return self._open(place, name), path
        if folder and path.is_dir():
            tempfile.TemporaryFile(dir=path).close()
        elif not is_null(path):
            _check_writable(path)
        return None, path

    def _claim(self, place: Place, name: str, *, numbered: bool) -> None:
        try:
            self.claims.claim(f"reporter {name}", place, numbered=numbered)
        except FileUsedTwiceError as error:
            both = error.first.startswith("reporter ")
            raise ReporterError(
                f"reporters {error.first[9:]} and {name} both write to {error.label}" if both else error.message,
                hint=f"give one of them another destination: --reporter {name}=PATH",
            ) from error


def kind_of(signature: Signature) -> str:
    """What DEST is for a reporter, as hints have it."""
    return "URL" if signature.destination == "url" else "PATH"


def _check_writable(path: Path) -> None:
    """Raise OSError where *path* can't be opened for writing; leave no new file behind."""
    new = False
    with contextlib.suppress(FileExistsError):
        path.open("xb").close()
        new = True
    if new:
        patiently(path.unlink)
    else:
        open_to_write(path, append=True).close()


def _unwritable(path: str, name: str, error: OSError | ValueError) -> ReporterError:
    return ReporterError(
        f"reporter {name} can't write to {Path(path)}: {getattr(error, 'strerror', None) or error}",
        hint=("start its reader first, or " if is_fifo(path) else "")
        + f"give it a file that can be written: --reporter {name}=PATH",
    )
