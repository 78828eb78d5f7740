"""Pictures that a run made or saved, for reports: small ones that a page can hold, and where the files are."""

from __future__ import annotations

import base64
import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from comfyreport.events import Output

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_MAX_BYTES = 64_000_000
_MAX_PIXELS = 64_000_000
_SCALABLE = frozenset({"RGB", "RGBA", "L", "CMYK"})
_PIXELS_PER_BYTE = 1100  # deflate makes a byte of up to 1032
_USUAL_SCANS = 20  # of a progressive JPEG, at most


def small_picture(source: bytes | Path, side: int, admit: Callable[[int], bool]) -> Image | None:
    """*source* as a picture of Pillow, of at most *side* pixels in each direction; None where that can't be.

    What a server sends may be no picture, or one that takes minutes: nothing is raised for it.

    :param admit: whether a picture is decoded that takes as long as a usual one of so many pixels.
    """
    from PIL import Image

    try:
        if isinstance(source, Path):
            # A file that is none, such as a pipe, could be waited for.
            if not (source.is_file() and source.stat().st_size <= _MAX_BYTES):
                return None
            source = source.read_bytes()
        with warnings.catch_warnings():
            # Pillow warns of large ones, and would so on stderr.
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(source), formats=_FORMATS)
        with picture:
            if picture.width * picture.height > _MAX_PIXELS or not admit(_cost(picture, source)):
                return None
            transparent = "A" in picture.mode or "transparency" in picture.info
            mode = "RGBA" if transparent else "RGB"
            # Made small first where that can be: a large picture isn't held twice.
            small = picture if picture.mode in _SCALABLE else picture.convert(mode)
            small.thumbnail((side, side), reducing_gap=2.0)
            return small.convert(mode)
    except Exception:  # noqa: BLE001  bytes of a stranger may make a decoder raise anything
        return None


def _cost(picture: Image, data: bytes) -> int:
    """How long decoding takes, in pixels of a usual picture.

    A head may tell of more pixels than the data can hold, and a JPEG may go over all of them hundreds of times.
    """
    scans = data.count(b"\xff\xda") if picture.format == "JPEG" else 1
    return min(picture.width * picture.height, len(data) * _PIXELS_PER_BYTE) * (1 + scans // _USUAL_SCANS)


class Thumbnails:
    """Makes small pictures of others. ImportError where Pillow isn't installed.

    :param max_pixels: of all pictures together; behind them nothing is decoded. A hundred million take a second or two.
    """

    def __init__(self, max_pixels: int = 100_000_000) -> None:
        import PIL.Image  # noqa: F401  told now that it is missing

        self._pixels = max_pixels

    def make(self, source: bytes | Path, side: int) -> bytes:
        """*source* as a WebP picture of at most *side* pixels in each direction; empty where that can't be."""
        small = small_picture(source, side, self._admit)
        if small is None:
            return b""
        small.save(data := io.BytesIO(), "WEBP", quality=70)
        return data.getvalue()

    def _admit(self, pixels: int) -> bool:
        if pixels > self._pixels:
            return False
        self._pixels -= pixels
        return True

    def url(self, source: bytes | Path, side: int) -> str:
        """The same as a URL that holds the picture; empty where that can't be."""
        data = self.make(source, side)
        return f"data:image/webp;base64,{base64.b64encode(data).decode()}" if data else ""


def saved_path(output: Output) -> Path | None:
    """The file that *output* was saved as; None if it wasn't, or went to stdout."""
    if output.path is None or output.path == "-":
        return None
    return Path(os.fsdecode(base64.b64decode(output.path_bytes)) if output.path_bytes else output.path)


def link_to(path: Path, folder: Path) -> str:
    """A link from a page in *folder* to the file at *path*: a relative one, so that both can be moved together."""
    path, folder = path.absolute(), folder.absolute()
    for up, parent in enumerate((folder, *folder.parents)):
        if path.is_relative_to(parent):
            return "../" * up + quote(os.fsencode(path.relative_to(parent).as_posix()))
    # Another drive of Windows.
    return path.as_uri()
