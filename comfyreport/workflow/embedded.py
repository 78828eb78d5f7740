"""The workflow in a picture, a video or a sound that ComfyUI made: what its nodes write into the metadata.

PNG: text chunks, `comf` in animated ones. WebP and JPEG: EXIF, `prompt:…` in one tag and `workflow:…` in another. Video
and audio: tags of the container or of a stream (comfy_api/latest/_ui.py, comfy_extras). A file may lie about
sizes: no picture is decoded, and no text is larger than a workflow may be.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

from comfyreport.errors import WorkflowError

MAX_BYTES = 64 * 1024 * 1024
"""A workflow is smaller."""

# Small data may say that they are much, again and again.
_MOST_TEXT = 4 * MAX_BYTES

MAGIC_BYTES = 16
"""So many bytes from a file's beginning say what it is."""

_KEYS = ("prompt", "workflow")
# Where VideoHelperSuite and others put both, as one object.
_BOTH = "comment"
_USER_COMMENT, _EXIF_IFD = 0x9286, 0x8769
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"comf")
_EXPORT = "in ComfyUI open the file and choose Workflow > Export (API)"


class Media(NamedTuple):
    """A kind of file: its name for people, and that of FFmpeg for its container, empty for a picture's."""

    name: str
    container: str = ""


PNG, JPEG, WEBP = Media("PNG picture"), Media("JPEG picture"), Media("WebP picture")


def media_of(head: bytes) -> Media | None:
    """What the file is that begins with *head*, if it is one in which ComfyUI leaves workflows."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if head.startswith(b"\xff\xd8\xff"):
        return JPEG
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return WEBP
    if head[4:8] == b"ftyp":
        return Media("file in the MP4 format", "mov")
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return Media("file in the WebM or Matroska format", "matroska")
    if head.startswith(b"fLaC"):
        return Media("file in the FLAC format", "flac")
    if head.startswith(b"OggS"):
        return Media("file in the Ogg format", "ogg")
    if head.startswith(b"ID3") or (head[:1] == b"\xff" and head[1:2] in (b"\xfb", b"\xf3", b"\xf2")):
        return Media("file in the MP3 format", "mp3")
    return None


def embedded(media: Media, file: BinaryIO, name: str) -> dict[str, Any]:
    """The `prompt` in *file*, which can seek, and its `workflow`, or the one that it has; not checked yet.

    Raises WorkflowError.

    :param name: the file's, for messages.
    """
    found: dict[str, str] = {}
    size = 0
    try:
        for key, text in _texts(media, file, name):
            size += len(text)
            if size > _MOST_TEXT:
                raise struct.error("too much")
            _take(found, key, text)
    except (EOFError, struct.error, zlib.error) as error:
        # What stood before the place where it is broken counts.
        if not found:
            reason = "it is cut off" if isinstance(error, EOFError) else "what it says of itself makes no sense"
            raise WorkflowError(
                f"{name} is a {media.name} that can't be read: {reason}", hint="Get it once more, as a whole."
            ) from None
    if "prompt" in found:
        prompt = _parsed(found["prompt"])
        if not isinstance(prompt, dict):
            raise WorkflowError(
                f"{name} is a {media.name} whose prompt can't be read as JSON", hint=f"Use another file, or {_EXPORT}."
            )
        for node in prompt.values():
            if isinstance(node, dict):
                # ComfyUI's own note of what a file was like (execution.py): submitted, it would pass for the present.
                node.pop("is_changed", None)
        workflow = _parsed(found.get("workflow", "null"))
        return {"prompt": prompt, **({"workflow": workflow} if isinstance(workflow, dict) else {})}
    if "workflow" in found:
        workflow = _parsed(found["workflow"])
        if not isinstance(workflow, dict):
            cause = "whose workflow can't be read as JSON"
            raise WorkflowError(f"{name} is a {media.name} {cause}", hint=f"Use another file, or {_EXPORT}.")
        return {"workflow": workflow}
    raise WorkflowError(
        f"{name} is a {media.name} that holds no workflow",
        hint="Name one as ComfyUI saved it: editing or sending a file often removes its metadata.",
    )


def _take(found: dict[str, str], key: str, text: str) -> None:
    key = key.lower()
    if key in _KEYS:
        found[key] = text
    elif key == _BOTH and text.startswith("{"):
        both = _parsed(text)
        for each in _KEYS if isinstance(both, dict) else ():
            if each in both:
                found.setdefault(each, both[each] if isinstance(both[each], str) else json.dumps(both[each]))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _texts(media: Media, file: BinaryIO, name: str) -> Iterable[tuple[str, str]]:
    """The texts of the file's metadata by their names; whatever comes behind what is broken is left out."""
    if media == PNG:
        return _png_texts(file)
    if media == WEBP:
        return _exif_texts(_webp_exif(file))
    if media == JPEG:
        return _exif_texts(_jpeg_exif(file))
    return _container_texts(media, file, name)


# --- PNG


def _png_texts(file: BinaryIO) -> Iterator[tuple[str, str]]:
    file.seek(8)
    while True:
        size, kind = struct.unpack(">I4s", _exactly(file, 8))
        if kind in _PNG_TEXTS:
            key, _, text = _exactly(file, size).partition(b"\0")
            if key.decode("latin-1").lower() in (*_KEYS, _BOTH):
                yield key.decode("latin-1"), _png_text(kind, text)
            size = 0
        elif kind == b"IEND":
            return
        file.seek(size + 4, 1)


def _png_text(kind: bytes, data: bytes) -> str:
    if kind == b"zTXt":
        return _inflated(data[1:]).decode("latin-1")
    if kind == b"iTXt":
        # Behind two flags, the language and the key in that language.
        text = data[2:].split(b"\0", 2)[-1]
        return (_inflated(text) if data[:1] == b"\1" else text).decode("utf-8", "replace")
    return data.decode("latin-1")


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, MAX_BYTES)
    if not inflater.eof:
        raise zlib.error("cut off, or too large")
    return text


def _exactly(file: BinaryIO, size: int) -> bytes:
    """So many bytes; EOFError where there are fewer. What is larger than any workflow isn't read."""
    if size > MAX_BYTES:
        raise struct.error("too large")
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data


# --- EXIF


def _webp_exif(file: BinaryIO) -> bytes:
    file.seek(12)
    while len(head := file.read(8)) == 8:
        kind, size = struct.unpack("<4sI", head)
        if kind == b"EXIF":
            return _exactly(file, size)
        file.seek(size + size % 2, 1)
    return b""


def _jpeg_exif(file: BinaryIO) -> bytes:
    file.seek(2)
    while len(head := file.read(4)) == 4:
        marker, size = struct.unpack(">HH", head)
        if not 0xFFC0 <= marker <= 0xFFFE or marker == 0xFFDA or size < 2:
            # The picture's data begin.
            break
        data = _exactly(file, size - 2)
        if marker == 0xFFE1 and data.startswith(b"Exif\0\0"):
            return data
    return b""


def _exif_texts(data: bytes) -> Iterator[tuple[str, str]]:
    """The texts in EXIF data, which are a small TIFF file: of its first directory and the one that EXIF has below."""
    data = data.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return
    directories = [struct.unpack_from(f"{order}I", data, 4)[0]]
    for start in directories:
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for index in range(count):
            tag, kind, size, value = struct.unpack_from(f"{order}HHII", data, start + 2 + 12 * index)
            if tag == _EXIF_IFD and len(directories) == 1:
                directories.append(value)
            elif tag == _USER_COMMENT:
                yield _BOTH, data[value + 8 : value + size].decode("utf-8", "replace")
            elif kind == 2:
                key, _, text = data[value : value + size].decode("utf-8", "replace").partition(":")
                yield key, text.rstrip("\0")


# --- video and audio


def _container_texts(media: Media, file: BinaryIO, name: str) -> Iterator[tuple[str, str]]:
    try:
        import av
    except ImportError as error:
        raise WorkflowError(
            f"{name} is a {media.name}: reading the workflow in it needs a package that isn't installed ({error.name})",
            hint='pip install "comfyreport[media]"',
        ) from None
    file.seek(0)
    try:
        # Its kind is told: what other formats make of the bytes (a playlist, for one) isn't tried.
        with av.open(file, format=media.container) as container:
            tags = [stream.metadata for stream in container.streams] + [container.metadata]
    except (av.FFmpegError, OSError, ValueError) as error:
        raise WorkflowError(
            f"{name} is a {media.name} that can't be read: {getattr(error, 'strerror', None) or type(error).__name__}",
            hint="Get it once more, as a whole.",
        ) from None
    for each in tags:
        yield from each.items()
