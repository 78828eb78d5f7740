"""For authors of reporters: play a recorded run through a reporter, without a server, a GPU, or waiting.

    from comfyreport.testing import conforms, play

    def test_it_rings_at_the_end():
        assert play(bell, "txt2img", times=2) == "ring ring\n"

    def test_it_keeps_what_reporters_promise():
        conforms(bell)

Time comes from the recording, so the same recording always gives the same text. A hook that raises raises here.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfyreport.conformance import ConformanceError, conforms
from comfyreport.recording.player import Recording
from comfyreport.recording.shipped import load_recording, recordings, stream_of
from comfyreport.reporting.signature import Signature, signature_of
from comfyreport.reporting.streams import DEFAULT_WIDTH
from comfyreport.stage import FakeStream, Stage, is_factory

__all__ = ["ConformanceError", "FakeStream", "conforms", "load_recording", "play", "recordings", "stream_of"]


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
    if not is_factory(reporter):
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
    stage = Stage(plugin, name)
    stage.perform(
        stream_of(recording, previews=stage.wants_previews if previews is None else previews, reporters=(name,))
    )
