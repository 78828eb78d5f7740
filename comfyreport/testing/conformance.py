"""Does a reporter keep what reporters promise? For authors: one call that tries it and lists what is wrong."""

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
from comfyreport.reporting.hookspecs import PLUGIN_HOOKS
from comfyreport.reporting.signature import signature_of
from comfyreport.testing.harness import FakeStream, Harness, destination_argument, is_factory
from comfyreport.testing.preparing import faults as plugin_faults
from comfyreport.testing.samples import each_type, sample_streams
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

# Parts of the samples' hostile text that act on a terminal.
_UNSAFE = ("\x1b[31mevil", "\x1b]0;evil", "\x9b2J", "\u202e", "\u2066")


class ConformanceError(AssertionError):
    """What is wrong with a reporter, one line for each fault; `faults` is the list of them."""

    def __init__(self, name: str, faults: list[str]) -> None:
        self.faults = faults
        super().__init__(f"{name} doesn't conform:\n" + "\n".join(f"  - {fault}" for fault in faults))


class DiskFullStream(FakeStream):
    """A stream whose disk is full."""

    write_attempted = False

    def write(self, text: str) -> None:
        """Never succeeds."""
        self.write_attempted = True
        raise OSError(28, "No space left on device")

    def write_bytes(self, data: bytes) -> None:
        """Never succeeds."""
        self.write("")


class _CloseCheckingStream(FakeStream):
    """A stream that notes whether anything is written after the reporter was closed."""

    reporter_closed = False
    written_after_close = False

    def write(self, text: str) -> None:
        """Write, and note whether the reporter was closed before."""
        self.written_after_close = self.written_after_close or self.reporter_closed
        super().write(text)

    def write_bytes(self, data: bytes) -> None:
        """Write, and note whether the reporter was closed before."""
        self.written_after_close = self.written_after_close or self.reporter_closed
        super().write_bytes(data)


class _Subject:
    """The reporter under test; each run gets a new one, if there is a factory."""

    def __init__(self, reporter: Any, destination: str | os.PathLike[str] | None, options: Mapping[str, Any]) -> None:
        self.name = getattr(reporter, "__name__", type(reporter).__name__)
        self.has_factory = is_factory(reporter)
        signature = signature_of(reporter, self.name) if self.has_factory else None
        self.destination_kind = signature.destination if signature else "none"
        self._streams = tuple(signature.streams) if signature else ()
        self.writes_text = self.destination_kind == "stream" or bool(self._streams)
        self._reporter = reporter
        self._destination = destination
        self._options = options
        if self.has_factory:
            # Options that don't fit the signature are a mistake of the caller, not a fault of the reporter.
            has_destination = self.destination_kind in ("stream", "path") or destination is not None
            inspect.signature(reporter).bind(*[None] * has_destination, **options)
        self._folder = Path(tempfile.mkdtemp(prefix="comfyreport-"))
        self._numbers = itertools.count(1)

    def clean(self) -> None:
        """Remove the files that were written."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def make(self, out: FakeStream) -> tuple[Harness, Callable[[], str]]:
        """A harness with a new reporter, and a function that returns what it wrote."""
        if not self.has_factory:
            return Harness(self._reporter, self.name), lambda: ""
        options = {**dict.fromkeys(self._streams, out), **self._options}
        if self.destination_kind == "stream":
            return Harness(self._reporter(out, **options), self.name), lambda: out.text
        if self.destination_kind == "path":
            path = self._folder / str(next(self._numbers)) / "file"
            path.parent.mkdir()
            reporter = self._reporter(path, **options)
            return Harness(reporter, self.name), lambda: _content(path.parent)
        arguments = destination_argument(self.destination_kind, self._destination)
        return Harness(self._reporter(*arguments, **options), self.name), lambda: ""


def conforms(
    reporter: Any,
    *,
    destination: str | os.PathLike[str] | None = None,
    flags: Sequence[str] = (),
    **options: Any,
) -> None:
    """Try *reporter* in every situation; ConformanceError, with everything that is wrong, if something is.

    It gets the sample streams (an event of each type, odd and hostile values, types of a newer version, a run that
    ends at once, hundreds of nodes side by side) and all recordings that ship, on output streams of several kinds. One
    that prepares workflows gets some as well, as they are and odd ones; to refuse them is no fault.

    :param reporter: its factory, as the entry point names it; or a module or an object, of which less can be tried.
    :param destination: what a factory with `url` gets: a place that answers.
    :param flags: a plugin's own flags, as on the command line.
    :param options: the factory's options, as values of Python; TypeError where they don't fit its signature.
    """
    __tracebackhide__ = True
    subject = _Subject(reporter, destination, options)
    places: dict[str, list[str]] = {}
    try:
        for fault in (*_check(subject), *_check_plugin_hooks(subject, flags)):
            places.setdefault(fault.what, []).append(fault.where)
    finally:
        subject.clean()
    if places:
        raise ConformanceError(subject.name, [_fault_line(what, where) for what, where in places.items()])


class _Fault(NamedTuple):
    """What is wrong, and the stream of events on which it showed, if it was a certain one."""

    what: str
    where: str = ""


def _fault_line(what: str, places: list[str]) -> str:
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return f"{places[0]}{more}: {what}" if places[0] else what


def _check(subject: _Subject) -> Iterator[_Fault]:
    outs: list[_CloseCheckingStream] = []
    for title, events in _streams():
        for options in STREAM_KINDS if subject.writes_text else STREAM_KINDS[:1]:
            outs.append(_CloseCheckingStream(**options))
            yield from _check_run(subject, title, events, options, outs[-1])
    # Reporters in a reference cycle are finalized only now, and may write then.
    gc.collect()
    if any(out.written_after_close for out in outs):
        yield _Fault("it writes behind comfyreport_close")
    with _captured_standard_streams(), contextlib.suppress(Exception):
        # What it writes to them, and what it raises on any stream, has been reported above.
        if subject.has_factory:
            yield from _check_repeatability(subject, each_type())
        if subject.destination_kind == "stream":
            yield from _check_full_disk(subject, each_type())


def _check_plugin_hooks(subject: _Subject, flags: Sequence[str]) -> Iterator[_Fault]:
    """What only plugins of `-p` have: flags, and workflows that they prepare."""
    found: list[tuple[str, str]] | None = None
    with _captured_standard_streams() as written_streams, contextlib.suppress(Exception):
        # What its factory or its close raises has been reported above.
        harness = subject.make(FakeStream())[0]
        if PLUGIN_HOOKS & harness.hooks.keys():
            found = list(plugin_faults(harness.hooks, subject.name, flags))
        harness.call_hook("close")
    if found is not None:
        yield from (_Fault(what, where) for what, where in found)
        written = "flags and workflows"
        yield from (_Fault(f"it writes to {each}, which isn't its own", written) for each in written_streams())


@functools.cache
def _streams() -> tuple[tuple[str, Sequence[ev.Event]], ...]:
    """Every stream of events that a reporter is tried with, by its title."""
    return (*sample_streams(), *((f"the recording {name}", list(stream_of(name))) for name in recordings()))


def _check_run(
    subject: _Subject, title: str, events: Sequence[ev.Event], options: Mapping[str, Any], out: _CloseCheckingStream
) -> Iterator[_Fault]:
    """One stream from its start to its end: nothing raised, nothing slow, nothing written to streams of others."""
    where = f"{title}{f' ({_option_text(options)})' if options else ''}"
    slow: list[str] = []
    with _captured_standard_streams() as written_streams:
        try:
            harness, _ = subject.make(out)
            harness.run(_timed(harness, events, slow))
        except Exception as error:  # noqa: BLE001  a reporter may raise anything
            yield _Fault(_raised(error), where)
            return
        out.reporter_closed = True
    for each in written_streams():
        yield _Fault(f"it writes to {each}, which isn't its own", where)
    yield from (_Fault(each, where) for each in slow)
    if subject.writes_text:
        written = out.text
        if not options.get("tty") and not options.get("color") and "\x1b" in written:
            yield _Fault("it writes escape sequences to what is no terminal", where)
        unsafe = [repr(each) for each in _UNSAFE if each in written]
        if unsafe:
            what = f"text of the server reaches the terminal as it is: {', '.join(unsafe)}; use printable()"
            yield _Fault(what, where)


def _raised(error: Exception) -> str:
    """An exception with the place in the reporter where it was raised, and its hint, if it has one."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = os.path.dirname(__file__)
    theirs = [frame for frame in frames if not frame.filename.startswith(ours)]
    place = f" at {os.path.basename(theirs[-1].filename)}:{theirs[-1].lineno} in {theirs[-1].name}" if theirs else ""
    hint = f" ({error.hint})" if isinstance(error, ComfyReportError) and error.hint else ""
    return f"it raises {one_line(error)}{place}{hint}"


def _timed(harness: Harness, events: Iterable[ev.Event], slow: list[str]) -> Iterator[ev.Event]:
    """*events*; what is done between one and the next is timed, and noted in *slow* if it takes too long."""
    limit = Timing().slow_hook_warn
    for event in events:
        began = time.monotonic()
        yield event
        lasted = time.monotonic() - began
        if lasted > limit:
            event_type = getattr(event, "type", type(event).__name__)
            slow.append(f"its hooks take {lasted:.1f} s for {event_type}; all reporters wait meanwhile")


def _check_repeatability(subject: _Subject, events: Sequence[ev.Event]) -> Iterator[_Fault]:
    """The same run gives the same text, also where two reporters get it at the same time."""
    options = {"tty": True}
    texts = []
    for _ in range(2):
        harness, text = subject.make(FakeStream(**options))
        harness.run(events)
        texts.append(text())
    if texts[0] != texts[1]:
        yield _Fault(
            "the same run gives another text the second time; take the time from the events, not from a clock, "
            "and keep what it knows in the object, not in the module or class"
        )
        return
    harnesses = [subject.make(FakeStream(**options)) for _ in range(2)]
    for event in events:
        for harness, _ in harnesses:
            if not isinstance(event, ev.StreamFinished) or harness.carries_stream:
                harness.deliver(event)
    for harness, _ in harnesses:
        harness.call_hook("close")
    if any(text() != texts[0] for _, text in harnesses):
        yield _Fault(
            "two of it side by side disturb each other; keep what it knows in the object, not in the module or class"
        )


def _check_full_disk(subject: _Subject, events: Sequence[ev.Event]) -> Iterator[_Fault]:
    """The core deals with streams that can't be written to, so the OSError has to reach it."""
    out = DiskFullStream()
    try:
        subject.make(out)[0].run(events)
    except OSError:
        return
    except Exception as error:  # noqa: BLE001  a reporter may raise anything
        yield _Fault(f"{_raised(error)} instead of the OSError", "a full disk")
    if out.write_attempted:
        yield _Fault("it hides the OSError, so that nobody learns that its output is lost", "a full disk")


@contextlib.contextmanager
def _captured_standard_streams() -> Iterator[Callable[[], list[str]]]:
    """Notes which of the process's standard streams are written to meanwhile, by `sys.stdout` or by descriptor."""
    written: list[str] = []
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
        streams = {name: _WriteDetector() for name in ("stdout", "stderr")}
        stack.enter_context(contextlib.redirect_stdout(streams["stdout"]))
        stack.enter_context(contextlib.redirect_stderr(streams["stderr"]))
        yield lambda: written
        for name, detector in streams.items():
            if detector.written_to or (name in files and os.fstat(files[name].fileno()).st_size):
                written.append(name)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _restore(saved: int, number: int) -> None:
    os.dup2(saved, number)
    os.close(saved)


class _WriteDetector:
    """Stands in for a standard stream and notes whether it was written to."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.written_to = False

    def write(self, text: str) -> int:
        """Note that it was written to."""
        self.written_to = self.written_to or bool(text)
        return len(text)

    def flush(self) -> None:
        """Nothing."""

    def isatty(self) -> bool:
        """It is none."""
        return False


def _content(folder: Path) -> str:
    return "".join(path.read_text("utf-8", "replace") for path in sorted(folder.rglob("*")) if path.is_file())


def _option_text(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())
