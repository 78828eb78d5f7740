"""The outputs of nodes: `Output`s from the `ui` objects that the server sends for its user interface. Pure."""

from __future__ import annotations

import mimetypes
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote_plus

from comfyreport.events import Kind, NodeRef, Output
from comfyreport.protocol.messages import Json
from comfyreport.text import FILE_NAME_LIMIT, bounded, cut, text_of

_MODEL_ENDINGS = (".glb", ".gltf", ".obj", ".fbx", ".stl", ".ply", ".usdz", ".splat", ".ksplat", ".spz")
_MEDIA_TYPES = {".webp": "image/webp", ".mkv": "video/x-matroska", ".flac": "audio/flac", ".opus": "audio/ogg"}

# Of all outputs of a run; 300,000 files have less.
OUTPUT_CHARACTERS = 32 * 1024 * 1024

_ENDING = re.compile(r"\.[a-z0-9]{1,12}\Z")

SAVERS = frozenset(
    (
        "SaveImage", "SaveAnimatedPNG", "SaveAnimatedWEBP", "SaveWEBM", "SaveVideo", "SaveAudio", "SaveAudioMP3",
        "SaveAudioOpus", "SaveGLB", "SaveSVGNode",
    )
)  # fmt: skip
"""ComfyUI's own classes whose nodes leave at least one file each time (nodes.py, comfy_extras)."""

# Keys beside the outputs proper that say how to show them (ComfyUI's front end, `animated` of SaveVideo and others).
_FLAGS = frozenset({"animated"})


class OutputLimit:
    """The characters that a run keeps of all its outputs; `left_out` counts the outputs beyond that."""

    def __init__(self, characters: int = OUTPUT_CHARACTERS) -> None:
        self._remaining = characters
        self.left_out = 0

    def admits(self, output: Output) -> bool:
        """Count *output* in; False if the limit is exceeded with it."""
        texts = (output.filename, output.subfolder, output.folder, output.url, output.value)
        self._remaining -= sum(len(text_of(text)) for text in texts if text is not None)
        self.left_out += self._remaining < 0
        return self._remaining >= 0


class OutputCollection:
    """The outputs of one run, each once, numbered among those of its node."""

    def __init__(self, base_url: str) -> None:
        self.outputs: list[Output] = []
        self.limit = OutputLimit()
        self._base_url = base_url
        self._keys: set[tuple[object, ...]] = set()
        self._counts: Counter[str] = Counter()

    def add(self, node: NodeRef, ui: Mapping[str, Json], *, cached: bool) -> None:
        """Add the outputs that *ui* lists for *node*, as far as they are new."""
        new: list[tuple[object, ...]] = []
        for output in outputs_of(node, ui, self._base_url, cached=cached, limit=self.limit):
            key = (output.node.id, output.filename, output.subfolder, output.folder)
            if output.filename is None or key not in self._keys:
                # Several expanded nodes may have left something under one display node, each counted from 0.
                index = self._counts[output.node.id]
                self.outputs.append(output if output.index == index else replace(output, index=index))
                self._counts[output.node.id] += 1
                new.append(key)
        self._keys.update(new)


def outputs_of(
    node: NodeRef, ui: Mapping[str, Json], base_url: str, *, cached: bool = False, limit: OutputLimit | None = None
) -> tuple[Output, ...]:
    """The outputs that *ui* lists: one node's `output` in an `executed` message or in history.

    Any object with a `filename` is a file, whatever its key; texts become kind text, all else kind value, with limits
    to their sizes (`text`). *base_url* is the server's address without credentials.
    """
    outputs = (_output(node, index, key, item, base_url, cached) for index, (key, item) in enumerate(_items(ui)))
    return tuple(output for output in outputs if limit is None or limit.admits(output))


def _items(ui: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    for key, entries in ui.items():
        if key in _FLAGS:
            continue
        for item in entries if isinstance(entries, list) else [entries]:
            if item is not None:
                yield key, item


def _output(node: NodeRef, index: int, key: str, item: Json, base_url: str, cached: bool) -> Output:
    filename = item.get("filename") if isinstance(item, dict) else None
    if not isinstance(filename, str) or not filename:
        kind: Kind = "text" if isinstance(item, str) else "value"
        return Output(node=node, index=index, kind=kind, value=bounded(item), cached=cached)
    filename = cut(filename, FILE_NAME_LIMIT)
    subfolder = item.get("subfolder")
    subfolder = cut(subfolder, FILE_NAME_LIMIT) if isinstance(subfolder, str) else ""
    folder = item.get("type")
    folder = cut(folder, FILE_NAME_LIMIT) if isinstance(folder, str) and folder else "output"
    media_type = media_type_of(filename)
    return Output(
        node=node,
        index=index,
        kind=_kind(filename, media_type, key),
        filename=filename,
        subfolder=subfolder,
        folder=folder,
        url=view_url(base_url, filename, subfolder, folder),
        media_type=media_type,
        cached=cached,
    )


def worth_saving(outputs: Sequence[Output]) -> list[int]:
    """The indexes of the outputs to save: files; those of the temp folder only where there are no others."""
    files = [index for index, output in enumerate(outputs) if output.filename is not None]
    permanent = [index for index in files if outputs[index].folder != "temp"]
    return permanent or files


def view_place(filename: str, subfolder: str) -> tuple[str, str]:
    """The `filename` and `subfolder` under which ComfyUI serves a file that a node calls *filename* in *subfolder*.

    A node may name a file with its folder; `/view` looks for the last part of `filename` alone (its server.py).
    """
    above, _, name = filename.rpartition("/")
    if not name or not above:
        return filename, subfolder
    return name, f"{subfolder.rstrip('/')}/{above}" if subfolder else above


def view_url(base_url: str, filename: str, subfolder: str, folder: str) -> str:
    """Where ComfyUI serves a file (`/view` in its server.py)."""
    place = *view_place(filename, subfolder), folder
    name, below, kind = (quote_plus(text, errors="replace") for text in place)
    return f"{base_url}/view?filename={name}&subfolder={below}&type={kind}"


def media_type_of(filename: str) -> str | None:
    """The MIME type of *filename*'s ending; None if it has none."""
    ending = _ENDING.search(filename.lower())
    if ending is None:
        return None
    return _MEDIA_TYPES.get(ending[0]) or mimetypes.guess_type("x" + ending[0])[0]


def _kind(filename: str, media_type: str | None, key: str) -> Kind:
    if filename.lower().endswith(_MODEL_ENDINGS):
        return "model"
    family = (media_type or "").partition("/")[0]
    if family == "image":
        return "image"
    if family == "video":
        return "video"
    if family == "audio":
        return "audio"
    return "image" if key == "images" and media_type is None else "file"
