"""The outputs of nodes: `Output`s from the `ui` objects that the server sends for its user interface. Pure."""

from __future__ import annotations

import mimetypes
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

SOCKET_SAVERS = frozenset(("SaveImageWebsocket",))
"""Classes whose nodes send what they made over the socket alone, as if it were previews (websocket_image_save.py)."""
# Names that 3D previews have in the temp folder; that of Preview3D itself, `preview3d_…`, is in the output folder.
_TEMPORARY_MODEL = re.compile(r"preview_?(3d_advanced|splat|pointcloud)_[0-9a-f]{32}\.")

# An address, a text of several lines, a path that leads out of the folder: nothing that `/view` serves.
_NO_PATH = re.compile(r"[\x00-\x1f]|://|^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)")

# Keys beside the outputs proper that say how to show them (ComfyUI's front end, `animated` of SaveVideo and others).
_FLAGS = frozenset({"animated"})


FileKey = tuple[str, str | None, str | None, str | None]


def file_key(output: Output) -> FileKey:
    """What tells a file of a run from its others, whoever tells of it."""
    return output.node.id, output.filename, output.subfolder, output.folder


def with_path(output: Output, saved: Output) -> Output:
    """*output* where it was *saved*."""
    return replace(output, path=saved.path, path_bytes=saved.path_bytes, bytes=saved.bytes)


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
        self._keys: set[FileKey] = set()
        self._counts: Counter[str] = Counter()

    def add(self, node: NodeRef, ui: Mapping[str, Json], *, cached: bool) -> None:
        """Add the outputs that *ui* lists for *node*, as far as they are new."""
        new: list[FileKey] = []
        for output in outputs_of(node, ui, self._base_url, cached=cached, limit=self.limit):
            key = file_key(output)
            if output.filename is None or key not in self._keys:
                self._append(output)
                new.append(key)
        self._keys.update(new)

    def add_picture(self, node: NodeRef, media_type: str) -> Output | None:
        """Add a picture that came over the socket, which has no name on the server; None beyond the limit."""
        ending = "jpg" if media_type == "image/jpeg" else "png"
        name = cut(f"{node.class_type}_{node.id}_{self._counts[node.id] + 1:05}_.{ending}", FILE_NAME_LIMIT)
        output = Output(node=node, index=0, kind="image", filename=name, media_type=media_type)
        return self._append(output) if self.limit.admits(output) else None

    def _append(self, output: Output) -> Output:
        # Several expanded nodes may have left something under one display node, each counted from 0.
        index = self._counts[output.node.id]
        output = output if output.index == index else replace(output, index=index)
        self._counts[output.node.id] += 1
        self.outputs.append(output)
        return output

    def merge_saved(self, saved: Iterable[Output]) -> None:
        """Note where outputs were saved, each once; one that isn't there yet is added."""
        places: dict[FileKey, deque[int]] = {}
        for place, output in enumerate(self.outputs):
            places.setdefault(file_key(output), deque()).append(place)
        for output in saved:
            found = places.get(file_key(output))
            if found:
                place = found.popleft()
                self.outputs[place] = with_path(self.outputs[place], output)
            else:
                self._append(output)


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
    found = _file_of(item) if isinstance(item, dict) else _model_of(key, item)
    if found is None:
        kind: Kind = "text" if isinstance(item, str) else "value"
        return Output(node=node, index=index, kind=kind, value=bounded(item), cached=cached)
    filename, subfolder, folder = (cut(text, FILE_NAME_LIMIT) for text in found)
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


def _file_of(item: Mapping[str, Json]) -> tuple[str, str, str] | None:
    """Name, subfolder and folder of a file that is told as an object."""
    filename, subfolder, folder = (item.get(key) for key in ("filename", "subfolder", "type"))
    if not isinstance(filename, str) or not filename:
        return None
    subfolder = subfolder if isinstance(subfolder, str) else ""
    return filename, subfolder, folder if isinstance(folder, str) and folder else "output"


def _model_of(key: str, item: Json) -> tuple[str, str, str] | None:
    """The same of a 3D file that is told as a string: its path in the folder.

    So do Save3DAdvanced, SaveGaussianSplat, SavePointCloud and the previews of 3D, which don't say which folder
    (ComfyUI's nodes_save_3d.py, nodes_load_3d.py).
    """
    if key != "result" or not isinstance(item, str) or not item.lower().endswith(_MODEL_ENDINGS):
        return None
    if _NO_PATH.search(item):
        return None
    # A path of Windows may have both separators.
    subfolder, slash, filename = item.rpartition("/" if "/" in item else "\\")
    if not filename.rpartition(".")[0]:
        return None
    return filename, subfolder, "temp" if not slash and _TEMPORARY_MODEL.match(filename) else "output"


def worth_saving(outputs: Sequence[Output], *, include_temp: bool = False) -> list[int]:
    """The indexes of the outputs to save: files; temporary ones only if asked for, or if there are no others."""
    files = [index for index, output in enumerate(outputs) if output.filename is not None]
    if include_temp:
        return files
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
