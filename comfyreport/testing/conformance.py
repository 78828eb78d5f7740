"""Does a reporter keep what reporters promise? For authors: one call that tries it all, and says what is wrong."""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import itertools
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from comfyreport import events as ev
from comfyreport.errors import ComfyReportError, one_line
from comfyreport.recording.shipped import recordings, stream_of
from comfyreport.reporting.signature import signature_of
from comfyreport.testing.harness import FakeStream, Harness, is_factory
from comfyreport.testing.samples import sample_streams, usual
from comfyreport.timing import Timing

STREAM_KINDS: tuple[Mapping[str, Any], ...] = (
    {},
    {"unicode": False},
    {"tty": True},
    {"tty": True, "color": True, "width": 120},
    {"tty": True, "width": 20, "height": 5},
    {"tty": True, "width": 1, "height": 1, "unicode": False},
)
"""The streams that a reporter is tried on: a file, one of ASCII, terminals of several sizes."""

# What of a server's text can do something to a terminal.
_HARM = ("\x1b[31mevil", "\x1b]0;evil", "\x9b2J", "\u202e", "\u2066")


class ConformanceError(AssertionError):
    """What a reporter doesn't keep, one line for each thing; `faults` has them one by one."""

    def __init__(self, name: str, faults: list[str]) -> None:
        self.faults = faults
        super().__init__(f"{name} doesn't conform:\n" + "\n".join(f"  - {fault}" for fault in faults))


class FullStream(FakeStream):
    """A stream whose disk is full."""

    tried = False

    def write(self, text: str) -> None:
        """Never succeeds."""
        self.tried = True
        raise OSError(28, "No space left on device")

    def write_bytes(self, data: bytes) -> None:
        """Never succeeds."""
        self.write("")


class _Closable(FakeStream):
    """A stream that notes what is written behind the reporter's close."""

    over = False
    late = False

    def write(self, text: str) -> None:
        """Write, and note when."""
        self.late = self.late or self.over
        super().write(text)

    def write_bytes(self, data: bytes) -> None:
        """Write, and note when."""
        self.late = self.late or self.over
        super().write_bytes(data)


class _Trial:
    """One reporter, made anew for each try."""

    def __init__(self, reporter: Any, destination: str | os.PathLike[str] | None, options: Mapping[str, Any]) -> None:
        self.name = getattr(reporter, "__name__", type(reporter).__name__)
        self.renewable = is_factory(reporter)
        self.kind = signature_of(reporter, self.name).destination if self.renewable else "none"
        self._reporter = reporter
        self._destination = destination
        self._options = options
        if self.renewable:
            # What the author gave wrongly is no fault of the reporter's.
            places = {"stream": [None], "path": [None]}.get(self.kind, [] if destination is None else [None])
            inspect.signature(reporter).bind(*places, **options)
        self._folder = Path(tempfile.mkdtemp(prefix="comfyreport-"))
        self._numbers = itertools.count(1)

    def clean(self) -> None:
        """Remove the files that were written."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def make(self, out: FakeStream) -> tuple[Harness, Callable[[], str]]:
        """A new reporter on its harness, and what will tell what it wrote."""
        if not self.renewable:
            return Harness(self._reporter, self.name), lambda: ""
        if self.kind == "stream":
            return Harness(self._reporter(out, **self._options), self.name), lambda: out.text
        if self.kind == "path":
            path = self._folder / str(next(self._numbers)) / "file"
            path.parent.mkdir()
            reporter = self._reporter(path, **self._options)
            return Harness(reporter, self.name), lambda: _content(path.parent)
        given = () if self.kind == "none" or self._destination is None else (os.fspath(self._destination),)
        return Harness(self._reporter(*given, **self._options), self.name), lambda: ""


def conforms(reporter: Any, *, destination: str | os.PathLike[str] | None = None, **options: Any) -> None:
    """Try *reporter* in all that can happen to it; ConformanceError, with everything that is wrong, if something is.

    It is told made-up streams (an event of each type, odd and hostile values, types of a newer version, a run that
    ends at once, hundreds of nodes side by side) and all recordings that ship, on streams of several kinds.

    :param reporter: its factory, as the entry point names it; or a module or an object, of which less can be tried.
    :param destination: what a factory with `url` gets: a place that answers.
    :param options: the factory's options, as values of Python; TypeError where they don't fit its signature.
    """
    __tracebackhide__ = True
    trial = _Trial(reporter, destination, options)
    places: dict[str, list[str]] = {}
    try:
        for fault in _faults(trial):
            places.setdefault(fault.what, []).append(fault.where)
    finally:
        trial.clean()
    if places:
        raise ConformanceError(trial.name, [_fault_line(what, where) for what, where in places.items()])


class _Fault(NamedTuple):
    """What is wrong, and with which stream it showed; empty where it was no single one."""

    what: str
    where: str = ""


def _fault_line(what: str, places: list[str]) -> str:
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return f"{places[0]}{more}: {what}" if places[0] else what


def _faults(trial: _Trial) -> Iterator[_Fault]:
    outs: list[_Closable] = []
    for title, events in _streams():
        for around in STREAM_KINDS if trial.kind == "stream" else STREAM_KINDS[:1]:
            outs.append(_Closable(**around))
            yield from _one_run(trial, title, events, around, outs[-1])
    # What is in a circle is gone only now.
    gc.collect()
    if any(out.late for out in outs):
        yield _Fault("it writes behind comfyreport_close")
    with _captured_standard_streams(), contextlib.suppress(Exception):
        # What it writes there, and raises anyhow, has been found by now.
        if trial.renewable:
            yield from _twice(trial, usual())
        if trial.kind == "stream":
            yield from _full(trial, usual())


@functools.cache
def _streams() -> tuple[tuple[str, Sequence[ev.Event]], ...]:
    """All that is told, by what it is."""
    return (*sample_streams(), *((f"the recording {name}", list(stream_of(name))) for name in recordings()))


def _one_run(
    trial: _Trial, title: str, events: Sequence[ev.Event], around: Mapping[str, Any], out: _Closable
) -> Iterator[_Fault]:
    """One stream from its start to its end: nothing raised, nothing slow, nothing written where it mustn't be."""
    where = f"{title}{f' ({_words(around)})' if around else ''}"
    slow: list[str] = []
    with _captured_standard_streams() as elsewhere:
        try:
            harness, text = trial.make(out)
            harness.run(_timed(harness, events, slow))
        except Exception as error:  # noqa: BLE001  a reporter may raise anything
            yield _Fault(_raised(error), where)
            return
        out.over = True
    for each in elsewhere():
        yield _Fault(f"it writes to {each}, which isn't its own", where)
    yield from (_Fault(each, where) for each in slow)
    written = text()
    if trial.kind == "stream":
        if not around.get("tty") and not around.get("color") and "\x1b" in written:
            yield _Fault("it writes escape sequences to what is no terminal", where)
        harm = [repr(each) for each in _HARM if each in written]
        if harm:
            what = f"text of the server reaches the terminal as it is: {', '.join(harm)}; use printable()"
            yield _Fault(what, where)


def _raised(error: Exception) -> str:
    """An exception with the place in the reporter where it came up, and the next step if it knows one."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = os.path.dirname(__file__)
    theirs = [frame for frame in frames if not frame.filename.startswith(ours)]
    place = f" at {os.path.basename(theirs[-1].filename)}:{theirs[-1].lineno} in {theirs[-1].name}" if theirs else ""
    hint = f" ({error.hint})" if isinstance(error, ComfyReportError) and error.hint else ""
    return f"it raises {one_line(error)}{place}{hint}"


def _timed(harness: Harness, events: Iterable[ev.Event], slow: list[str]) -> Iterator[ev.Event]:
    """*events*, timing what is done between taking one and the next."""
    limit = Timing().slow_hook_warn
    for event in events:
        began = time.monotonic()
        yield event
        lasted = time.monotonic() - began
        if lasted > limit:
            kind = getattr(event, "type", type(event).__name__)
            slow.append(f"its hooks take {lasted:.1f} s for {kind}; all reporters wait meanwhile")


def _twice(trial: _Trial, events: Sequence[ev.Event]) -> Iterator[_Fault]:
    """The same run gives the same text, also to two reporters that are told it side by side."""
    around = {"tty": True}
    alone = []
    for _ in range(2):
        harness, text = trial.make(FakeStream(**around))
        harness.run(events)
        alone.append(text())
    if alone[0] != alone[1]:
        yield _Fault(
            "the same run gives another text the second time; take the time from the events, not from a clock, "
            "and keep what it knows in the object, not in the module or class"
        )
        return
    stages = [trial.make(FakeStream(**around)) for _ in range(2)]
    for event in events:
        for harness, _ in stages:
            if not isinstance(event, ev.StreamFinished) or harness.carries_stream:
                harness.tell(event)
    for harness, _ in stages:
        harness.call("close")
    if any(text() != alone[0] for _, text in stages):
        yield _Fault(
            "two of it side by side disturb each other; keep what it knows in the object, not in the module or class"
        )


def _full(trial: _Trial, events: Sequence[ev.Event]) -> Iterator[_Fault]:
    """A stream that can't be written to is the core's affair, so the core has to hear of it."""
    out = FullStream()
    try:
        trial.make(out)[0].run(events)
    except OSError:
        return
    except Exception as error:  # noqa: BLE001  a reporter may raise anything
        yield _Fault(f"{_raised(error)} instead of the OSError", "a full disk")
    if out.tried:
        yield _Fault("it hides the OSError, so that nobody learns that its output is lost", "a full disk")


@contextlib.contextmanager
def _captured_standard_streams() -> Iterator[Callable[[], list[str]]]:
    """Notes what is written to the process's own standard streams meanwhile, by whatever way."""
    found: list[str] = []
    with contextlib.ExitStack() as stack:
        files = {}
        _flush()
        for number, name in ((1, "stdout"), (2, "stderr")):
            file = stack.enter_context(tempfile.TemporaryFile())
            try:
                saved = os.dup(number)
            except OSError:
                continue
            os.dup2(file.fileno(), number)
            files[name] = file
            stack.callback(_restore, saved, number)
        streams = {name: _Tap() for name in ("stdout", "stderr")}
        stack.enter_context(contextlib.redirect_stdout(streams["stdout"]))
        stack.enter_context(contextlib.redirect_stderr(streams["stderr"]))
        yield lambda: found
        for name, tap in streams.items():
            if tap.used or (name in files and os.fstat(files[name].fileno()).st_size):
                found.append(name)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _restore(saved: int, number: int) -> None:
    os.dup2(saved, number)
    os.close(saved)


class _Tap:
    """Stands in for a standard stream and notes whether it was written to."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.used = False

    def write(self, text: str) -> int:
        """Note it."""
        self.used = self.used or bool(text)
        return len(text)

    def flush(self) -> None:
        """Nothing."""

    def isatty(self) -> bool:
        """It is none."""
        return False


def _content(folder: Path) -> str:
    return "".join(path.read_text("utf-8", "replace") for path in sorted(folder.rglob("*")) if path.is_file())


def _words(around: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in around.items())
