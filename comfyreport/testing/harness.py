"""One reporter without the core: a stream in memory, its hooks called as the core calls them, a recording played."""

from __future__ import annotations

import inspect
import io
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from comfyreport import events as ev
from comfyreport.events import RunViews
from comfyreport.recording.player import Recording
from comfyreport.recording.shipped import load_recording, stream_of
from comfyreport.reporting.hookspecs import PREFIX
from comfyreport.reporting.plugins import STREAM_HOOKS
from comfyreport.reporting.signature import signature_of
from comfyreport.reporting.streams import DEFAULT_HEIGHT, DEFAULT_WIDTH, Stream
from comfyreport.reporting.validation import Manager, register
from comfyreport.timing import Timing

MAX_TICKS = 100
"""Between two events; in a longer gap the ticks are further apart."""


class _MemoryFile(io.TextIOWrapper):
    """A text file in memory that may say that it is a terminal."""

    def __init__(self, *, tty: bool, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, newline="\n")
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


class FakeStream(Stream):
    """A stream in memory; `text` is what was written to it.

    :param width: columns, where it is a terminal.
    :param height: lines, likewise.
    :param tty: whether it is a terminal, on which lines may be drawn over.
    :param unicode: whether its encoding has more than ASCII.
    """

    def __init__(
        self,
        *,
        width: int = DEFAULT_WIDTH,
        height: int = DEFAULT_HEIGHT,
        tty: bool = False,
        color: bool = False,
        unicode: bool = True,
    ) -> None:
        super().__init__(
            _MemoryFile(tty=tty, encoding="utf-8" if unicode else "ascii"),
            name="stderr",
            environ={"TERM": "xterm"},
            color="always" if color else "never",
        )
        self._width, self._height = width, height

    def width(self) -> int:
        """The width that was asked for."""
        return self._width

    def height(self) -> int:
        """The height that was asked for."""
        return self._height

    @property
    def text(self) -> str:
        """All that was written so far, escape sequences included."""
        self.flush()
        written: bytes = self.file.buffer.getvalue()  # type: ignore[attr-defined]
        return written.decode(self.file.encoding, "replace")


class Harness:
    """Calls the hooks of one reporter, which is registered as the core does it: ReporterError if it can't be."""

    def __init__(self, plugin: object, name: str) -> None:
        self.hooks = register(Manager(), plugin, name)
        self._views = RunViews()

    @property
    def carries_stream(self) -> bool:
        """Whether the reporter is closed only after the end of the stream."""
        return any(hook in self.hooks for hook in STREAM_HOOKS)

    @property
    def wants_previews(self) -> bool:
        """Whether the reporter has the hook of previews."""
        return f"{PREFIX}node_preview" in self.hooks

    def run(self, events: Iterable[ev.Event]) -> None:
        """Deliver a whole stream and close the reporter, in the order and with the ticks of the core."""
        for event in events:
            if isinstance(event, ev.StreamFinished) and not self.carries_stream:
                break
            self.deliver(event)
        self.call_hook("close")

    def deliver(self, event: ev.Event) -> None:
        """Call the hooks of the ticks up to *event*, then those of the event."""
        open_run = self._views.newest_open
        if open_run is not None:
            for elapsed in _ticks(self._views.last.elapsed, event.elapsed):
                self.call_hook("tick", elapsed=elapsed, run=open_run)
        run = self._views.apply(event)
        for name in ("event", event.type):  # type: ignore[attr-defined]
            self.call_hook(name, event=event, run=run)

    def call_hook(self, name: str, **arguments: Any) -> None:
        """Call one hook, if the reporter has it, with those of *arguments* that it takes."""
        hook = self.hooks.get(PREFIX + name)
        if hook is not None:
            hook.function(*[arguments[argument] for argument in hook.arguments])


def _ticks(start: float, end: float) -> Iterator[float]:
    """The times of the ticks between two events, on whole tenths of a second."""
    tick = Timing().tick
    stride = math.ceil((end - start) / tick / MAX_TICKS)
    for number in range(int(start / tick) + 1, math.ceil(end / tick), max(1, stride)):
        elapsed = round(number * tick, 6)
        if start < elapsed < end:
            yield elapsed


def is_factory(reporter: object) -> bool:
    """Whether *reporter* has to be called to get the object with the hooks."""
    return inspect.isclass(reporter) or (
        callable(reporter) and not any(attribute.startswith(PREFIX) for attribute in dir(reporter))
    )


def play(
    reporter: Any,
    recording: str | os.PathLike[str] | Recording,
    *,
    width: int = DEFAULT_WIDTH,
    tty: bool = False,
    color: bool = False,
    unicode: bool = True,
    previews: bool | None = None,
    destination: str | os.PathLike[str] | None = None,
    **options: Any,
) -> str:
    """Play *recording* through *reporter*; what it wrote to its Stream, or to the file of its `path`.

    :param reporter: a factory, or a reporter object (then the text is empty: ask the object).
    :param recording: a shipped name (see `recordings`), a path, or a Recording.
    :param width: columns of the stream.
    :param tty: whether the stream is a terminal.
    :param color: whether to colour.
    :param unicode: whether the stream's encoding has more than ASCII.
    :param previews: whether there are `node_preview` events; by default where the reporter has their hook.
    :param destination: what a factory's `path` or `url` gets; a `path` is a temporary file by default.
    :param options: the factory's options, as values of Python.
    """
    loaded = load_recording(recording)
    if not is_factory(reporter):
        _run_recording(reporter, type(reporter).__name__, loaded, previews)
        return ""
    name = getattr(reporter, "__name__", type(reporter).__name__)
    signature = signature_of(reporter, name)
    beside = FakeStream(width=width, tty=tty, color=color, unicode=unicode)
    options = {**dict.fromkeys(signature.streams, beside), **options}
    if signature.destination == "stream":
        out = FakeStream(width=width, tty=tty, color=color, unicode=unicode)
        _run_recording(reporter(out, **options), name, loaded, previews)
        out.close()
        return out.text
    if signature.destination == "path":
        return _play_to_path(reporter, name, loaded, previews, destination, options)
    arguments = destination_argument(signature.destination, destination)
    _run_recording(reporter(*arguments, **options), name, loaded, previews)
    return ""


def destination_argument(kind: str, destination: str | os.PathLike[str] | None) -> tuple[str, ...]:
    """The first argument of a factory whose signature has that *kind* of destination, if it takes one and has one."""
    return () if destination is None or kind == "none" else (os.fspath(destination),)


def _play_to_path(
    factory: Any,
    name: str,
    recording: Recording,
    previews: bool | None,
    destination: str | os.PathLike[str] | None,
    options: Mapping[str, Any],
) -> str:
    with tempfile.TemporaryDirectory(prefix="comfyreport-") as folder:
        path = Path(folder, "destination") if destination is None else Path(destination)
        path.parent.mkdir(parents=True, exist_ok=True)
        _run_recording(factory(path, **options), name, recording, previews)
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _run_recording(plugin: object, name: str, recording: Recording, previews: bool | None) -> None:
    harness = Harness(plugin, name)
    harness.run(
        stream_of(recording, previews=harness.wants_previews if previews is None else previews, reporters=(name,))
    )
