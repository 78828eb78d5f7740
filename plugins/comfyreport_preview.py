"""The `preview` reporter: pictures of work in progress as files, as an animation, and on the terminal.

They come from a server: each is looked at before it is decoded, and what is kept of them has bounds.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from comfyreport import (
    NodePreview,
    Region,
    ReporterError,
    RunFinished,
    RunQueued,
    RunView,
    Stream,
    fit,
    format_steps,
    hookimpl,
    picture_block,
    picture_size,
    printable,
    small_picture,
    stderr,
    write_whole,
)

if TYPE_CHECKING:
    from PIL.Image import Image

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_MOST_BYTES, _MOST_PIXELS = 16 * 1024 * 1024, 2048 * 2048
"""Of one picture; a larger one is no preview."""
_MOST_FILES = 2000
"""Of one run: a sampler sends tens of them, a server that means ill any number."""
_MOST_FRAMES, _FRAME_SIDE = 48, 384
"""Of an animation: where there are more, every second one is left out, again and again."""
_FRAME_MILLISECONDS, _LAST_MILLISECONDS = 120, 2000
_SHOW_SECONDS = 0.5
"""Between two pictures on the terminal, on the events' clock."""
_ANIMATIONS = {".webp": "WEBP", ".gif": "GIF"}
_OTHER_FILES = frozenset({".apng", ".avif", ".jpeg", ".jpg", ".mkv", ".mp4", ".png", ".webm"})


def _extension(data: bytes) -> str | None:
    """What *data* is by its first bytes, whatever the server says; None for what is no preview."""
    if len(data) > _MOST_BYTES:
        return None
    return ".png" if data.startswith(_PNG) else ".jpg" if data.startswith(_JPEG) else None


def _decoded(data: bytes) -> Image | None:
    """The picture, with no side longer than those of an animation; None where it is too large or broken."""
    if _extension(data) is None:
        return None
    picture = small_picture(data, _FRAME_SIDE, lambda pixels: pixels <= _MOST_PIXELS)
    return picture and picture.convert("RGB")


class _Frame(NamedTuple):
    """A picture for the animation, and the node that it is of."""

    node: str
    data: bytes


class Animation:
    """The frames of one run, a bounded number of them, as they came; each is small, and encoded."""

    def __init__(self) -> None:
        self._every = 1
        self._counts: Counter[str] = Counter()
        self._frames: list[_Frame] = []
        self._last: _Frame | None = None

    def add(self, node: str, data: bytes) -> None:
        """Keep a picture, or not, where there are many."""
        if node not in self._counts and len(self._counts) == _MOST_FRAMES:
            return
        number = self._counts[node]
        self._counts[node] += 1
        frame = _Frame(node, data)
        if number % self._every == 0 and self._keep(frame):
            self._last = None
        elif _extension(data):
            # The newest is in the animation in any case.
            self._last = frame

    def _keep(self, frame: _Frame) -> bool:
        picture = _decoded(frame.data)
        if picture is None:
            return False
        if len(self._frames) == _MOST_FRAMES:
            self._frames = self._thinned()
            self._every *= 2
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", quality=90)
        self._frames.append(_Frame(frame.node, encoded.getvalue()))
        return True

    def _thinned(self) -> list[_Frame]:
        """Every second frame of each node; where each has one alone, every second of all."""
        numbers: Counter[str] = Counter()
        kept = []
        for frame in self._frames:
            if numbers[frame.node] % 2 == 0:
                kept.append(frame)
            numbers[frame.node] += 1
        return kept if len(kept) < len(self._frames) else kept[::2]

    def encoded(self, kind: str) -> bytes | None:
        """The animation, WEBP or GIF: nodes that ran side by side come one after the other. None without a frame."""
        from PIL import ImageOps

        frames = [*self._frames, *([] if self._last is None else [self._last])]
        order = list(dict.fromkeys(frame.node for frame in frames))
        decoded = [_decoded(frame.data) for frame in sorted(frames, key=lambda frame: order.index(frame.node))]
        pictures = [picture for picture in decoded if picture is not None]
        if not pictures:
            return None
        size = max((picture.size for picture in pictures), key=lambda size: size[0] * size[1])
        pictures = [picture if picture.size == size else ImageOps.pad(picture, size) for picture in pictures]
        data = io.BytesIO()
        durations = [_FRAME_MILLISECONDS] * (len(pictures) - 1) + [_LAST_MILLISECONDS]
        more = {"method": 0, "quality": 80} if kind == "WEBP" else {}
        first, *others = pictures
        first.save(data, kind, save_all=True, append_images=others, duration=durations, loop=0, **more)
        return data.getvalue()


class Screen:
    """Shows the newest picture above the live view of whoever draws on the terminal; if nobody does, it draws one."""

    def __init__(self, out: Stream) -> None:
        self._out = out
        self._region: Region | None = None
        self._shown_at: float | None = None

    def show(self, event: NodePreview, run: RunView) -> None:
        """Show the picture of *event*, unless another came a moment ago."""
        if self._shown_at is not None and 0 <= event.elapsed - self._shown_at < _SHOW_SECONDS:
            return
        picture = _decoded(event.image)
        size = picture and picture_size(self._out, picture.width, picture.height)
        if not picture or not size:
            return
        self._shown_at = event.elapsed
        rgb = picture.resize((size.width, size.height)).tobytes()
        self._out.show(picture_block(self._out, rgb, size))
        if self._region is None and not self._out.drawn_by_others and self._out.take_terminal():
            self._region = Region(self._out)
        self.draw(event.elapsed, run)

    def draw(self, elapsed: float, run: RunView) -> None:
        """Draw, where nobody else does, what is shown, and a line that says of what it is."""
        if self._region is not None and self._region.due(elapsed):
            nodes = (f"{node.title}{_steps(node.step, node.max_steps)}" for node in run.active)
            self._region.draw([fit(printable(" · ".join(nodes)) or "Preview", self._out.width() - 1)], elapsed)

    def close(self) -> None:
        """Show nothing any more."""
        self._out.show(None)
        self._shown_at = None
        if self._region is not None:
            self._region.close()
            self._region = None


def _steps(step: float | None, most: float | None) -> str:
    return "" if step is None or most is None else f" {format_steps(step, most)}"


class _Run:
    """What came of a run that is open: how many pictures, the number of the newest file, and the animation."""

    def __init__(self) -> None:
        self.came = self.number = 0
        self.animation = Animation()


class Preview:
    """Keeps previews where they were asked for.

    :param kind: WEBP or GIF for an animation; None: *path* is a folder for all pictures.
    :param screen: where the newest is shown, if it is.
    """

    def __init__(self, path: Path, kind: str | None, out: Stream, screen: Screen | None) -> None:
        self._path, self._kind = path, kind
        self._out, self._screen = out, screen
        self._runs: dict[int | None, _Run] = {}
        self._ended = 0

    @hookimpl
    def comfyreport_run_queued(self, event: RunQueued) -> None:
        """A run begins, maybe anew on another server: what came of it before is left out."""
        self._runs[event.run_index] = _Run()

    @hookimpl
    def comfyreport_node_preview(self, event: NodePreview, run: RunView) -> None:
        """Keep a picture, and show it."""
        kept = self._runs.setdefault(event.run_index, _Run())
        kept.came += 1
        node = "" if event.node is None else event.node.id
        extension = _extension(event.image)
        if self._kind is not None:
            kept.animation.add(node, event.image)
        elif extension is not None and kept.came <= _MOST_FILES:
            self._path.mkdir(parents=True, exist_ok=True)
            kept.number += 1
            words = (event.prompt_id or "run")[:8], f"{kept.number:04}", node[:40]
            # Ids come from a server, or from whoever wrote the workflow.
            name = "-".join(filter(None, (re.sub(r"[^A-Za-z0-9]+", "_", word).strip("_") for word in words)))
            (self._path / f"{name}{extension}").write_bytes(event.image)
        if self._screen is not None:
            self._screen.show(event, run)

    @hookimpl
    def comfyreport_tick(self, elapsed: float, run: RunView) -> None:
        """Bring the terminal up to date."""
        if self._screen is not None:
            self._screen.draw(elapsed, run)

    @hookimpl
    def comfyreport_run_finished(self, event: RunFinished, run: RunView) -> None:
        """Write the animation; say so where there was nothing to keep."""
        kept = self._runs.pop(event.run_index, _Run())
        if self._screen is not None and not self._runs:
            self._screen.close()
        came = kept.came
        self._ended += 1
        if not came:
            sampled = any("Sampler" in node.ref.class_type and node.max_steps for node in run.nodes.values())
            if event.status == "success" and sampled:
                self._out.write(
                    f"[WARN] No previews for {self._path.name}: the server may run with --preview-method none\n"
                )
                self._out.flush()
        elif self._kind is not None:
            data = kept.animation.encoded(self._kind)
            if data is None:
                raise ReporterError(f"none of {came} previews is a picture that can be used")
            number = event.run_index or (self._ended if self._ended > 1 else None)
            name = self._path.stem + ("" if number is None else f"-{number}") + self._path.suffix
            write_whole(self._path.with_name(name), data)

    @hookimpl
    def comfyreport_close(self) -> None:
        """Leave the terminal as it was."""
        if self._screen is not None:
            self._screen.close()


def preview(folder: Path, *, show: bool = False, out: Stream = stderr) -> Preview:
    """Pictures of work in progress: DEST is a folder for them, or a file for an animation, run.webp or run.gif.

    :param show: draw the newest on the terminal, too
    """
    kind = None if folder.is_dir() else _ANIMATIONS.get(folder.suffix.lower())
    if kind is None and ((folder.exists() and not folder.is_dir()) or folder.suffix.lower() in _OTHER_FILES):
        raise ReporterError(
            f"preview: {folder} is neither a folder nor an animation", hint="--reporter preview=run.webp"
        )
    if kind is not None or show:
        try:
            import PIL.Image  # noqa: F401  whether it is there
        except ImportError as error:
            raise ReporterError("preview needs Pillow", hint='pip install "comfyreport[preview]"') from error
    return Preview(folder, kind, out, Screen(out) if show else None)
