"""For authors of reporters: play a recorded run through a reporter, without a server, a GPU, or waiting.

    from comfyreport.testing import play

    def test_it_rings_at_the_end():
        assert play(bell, "txt2img", times=2) == "ring ring\n"

Time comes from the recording, so the same recording always gives the same text. A hook that raises raises here.
"""

from __future__ import annotations

import gzip
import inspect
import io
import itertools
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from comfyreport import events as ev
from comfyreport._version import __version__
from comfyreport.checking import Hook, Manager, register
from comfyreport.factories import Signature, signature_of
from comfyreport.hookspecs import PREFIX
from comfyreport.plugins import STREAM_HOOKS
from comfyreport.recording import Player, Recording, parse_recording, read_recording
from comfyreport.streams import DEFAULT_HEIGHT, DEFAULT_WIDTH, Stream
from comfyreport.timing import Timing
from comfyreport.view import RunView

MOST_TICKS = 100
"""In a gap without an event; a longer one has its ticks further apart."""

_SUFFIX = ".jsonl.gz"


class _File(io.TextIOWrapper):
    """A text file in memory that may pass for a terminal."""

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
            _File(tty=tty, encoding="utf-8" if unicode else "ascii"),
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


def recordings() -> tuple[str, ...]:
    """The names of the recordings that ship with comfyreport."""
    folder = resources.files("comfyreport.recordings")
    return tuple(sorted(entry.name.removesuffix(_SUFFIX) for entry in folder.iterdir() if entry.name.endswith(_SUFFIX)))


def load_recording(recording: str | os.PathLike[str] | Recording) -> Recording:
    """A recording by its shipped name or its path; UsageError where there is none."""
    if isinstance(recording, Recording):
        return recording
    if isinstance(recording, str) and recording in recordings():
        name = f"{recording}{_SUFFIX}"
        packed = resources.files("comfyreport.recordings").joinpath(name).read_bytes()
        return parse_recording(gzip.decompress(packed), name)
    return read_recording(recording)


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

    :param reporter: a factory, or a reporter that is made already (then nothing is returned: look into it).
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
    if not _is_factory(reporter):
        _perform(reporter, type(reporter).__name__, loaded, previews)
        return ""
    name = getattr(reporter, "__name__", type(reporter).__name__)
    signature = signature_of(reporter, name)
    if signature.destination == "stream":
        out = FakeStream(width=width, tty=tty, color=color, unicode=unicode)
        _perform(reporter(out, **options), name, loaded, previews)
        out.close()
        return out.text
    if signature.destination == "path":
        return _play_to_path(reporter, name, loaded, previews, destination, options)
    arguments = _given(signature, destination)
    _perform(reporter(*arguments, **options), name, loaded, previews)
    return ""


def stream_of(
    recording: str | os.PathLike[str] | Recording, *, previews: bool = True, reporters: tuple[str, ...] = ()
) -> Iterator[ev.Event]:
    """The events of a whole stream, as `comfyreport replay` tells them: from `stream_started` to `stream_finished`."""
    loaded = load_recording(recording)
    sequence = itertools.count(1)
    yield ev.StreamStarted(
        seq=next(sequence),
        time=loaded.time,
        elapsed=0.0,
        comfyreport=__version__,
        command="replay",
        server=loaded.server,
        reporters=reporters,
    )
    result: ev.Event | None = None
    for result in Player(loaded, sequence=sequence, previews=previews).events():
        yield result
    assert isinstance(result, ev.RunFinished)
    yield ev.StreamFinished(
        seq=next(sequence),
        time=result.time,
        elapsed=result.elapsed,
        status=result.status,
        exit_code=result.exit_code,
        failed=int(result.exit_code != 0),
    )


def _is_factory(reporter: object) -> bool:
    return inspect.isclass(reporter) or (
        callable(reporter) and not any(attribute.startswith(PREFIX) for attribute in dir(reporter))
    )


def _given(signature: Signature, destination: str | os.PathLike[str] | None) -> tuple[str, ...]:
    """The factory's first argument, where it has one that was given."""
    return () if destination is None or signature.destination == "none" else (os.fspath(destination),)


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
        _perform(factory(path, **options), name, recording, previews)
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _perform(plugin: object, name: str, recording: Recording, previews: bool | None) -> None:
    """Tell the whole stream to one reporter and close it: the order and the times are those of the core."""
    hooks = register(Manager(), plugin, name)
    stage = _Stage(hooks)
    wanted = f"{PREFIX}node_preview" in hooks if previews is None else previews
    carries = any(hook in hooks for hook in STREAM_HOOKS)
    for event in stream_of(recording, previews=wanted, reporters=(name,)):
        if isinstance(event, ev.StreamFinished) and not carries:
            break
        stage.tell(event)
    stage.call("close")


class _Stage:
    """Calls the hooks of one reporter."""

    def __init__(self, hooks: Mapping[str, Hook]) -> None:
        self._hooks = hooks
        self._run = RunView()

    def call(self, name: str, **known: Any) -> None:
        """Call one hook, if the reporter has it, with the arguments that it wants."""
        hook = self._hooks.get(PREFIX + name)
        if hook is not None:
            hook.function(*[known[argument] for argument in hook.arguments])

    def tell(self, event: ev.Event) -> None:
        """The ticks up to *event*, and the event."""
        if self._run.result is None:
            for elapsed in _ticks(self._run.elapsed, event.elapsed):
                self.call("tick", elapsed=elapsed, run=self._run)
        self._run.apply(event)
        for name in ("event", event.type):  # type: ignore[attr-defined]
            self.call(name, event=event, run=self._run)


def _ticks(after: float, before: float) -> Iterator[float]:
    """The times of the ticks between two events, on whole tenths of a second."""
    tick = Timing().tick
    stride = math.ceil((before - after) / tick / MOST_TICKS)
    for number in range(int(after / tick) + 1, math.ceil(before / tick), max(1, stride)):
        elapsed = round(number * tick, 6)
        if after < elapsed < before:
            yield elapsed
