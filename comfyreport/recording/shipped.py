"""The recordings that ship with comfyreport, and the event streams of recordings."""

from __future__ import annotations

import gzip
import itertools
import os
from collections.abc import Iterator
from importlib import resources
from typing import cast

from comfyreport import events as ev
from comfyreport._version import __version__
from comfyreport.errors import UsageError
from comfyreport.recording.player import Player, Recording, parse_recording, read_recording

_SUFFIX = ".jsonl.gz"


def recordings() -> tuple[str, ...]:
    """The names of the recordings that ship with comfyreport."""
    folder = resources.files("comfyreport.recording.recordings")
    return tuple(sorted(entry.name.removesuffix(_SUFFIX) for entry in folder.iterdir() if entry.name.endswith(_SUFFIX)))


def load_recording(recording: str | os.PathLike[str] | Recording) -> Recording:
    """A recording by its shipped name or its path; UsageError where there is none."""
    if isinstance(recording, Recording):
        return recording
    if isinstance(recording, str) and recording in recordings():
        name = f"{recording}{_SUFFIX}"
        packed = resources.files("comfyreport.recording.recordings").joinpath(name).read_bytes()
        return parse_recording(gzip.decompress(packed), name)
    return read_recording(recording)


def find_recording(name: str) -> Recording:
    """The recording in the file *name*, else the shipped one of that name; UsageError where there is neither."""
    there = os.path.exists(name)
    if name in recordings() and (not there or os.path.isdir(name)):
        return load_recording(name)
    if there or os.sep in name:
        return read_recording(name)
    hint = f"name a file that --record wrote, or one that comfyreport has: {', '.join(recordings())}"
    raise UsageError(f"there is no recording {name}", hint=hint)


def stream_of(
    recording: str | os.PathLike[str] | Recording, *, previews: bool = True, reporters: tuple[str, ...] = ()
) -> Iterator[ev.AnyEvent]:
    """The events of a whole stream, from `stream_started` to `stream_finished`, as `comfyreport replay` has them."""
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
    result: ev.AnyEvent | None = None
    for result in cast("Iterator[ev.AnyEvent]", Player(loaded, sequence=sequence, previews=previews).events()):
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
