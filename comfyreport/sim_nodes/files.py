"""The server's files: what nodes save and clients upload, by type (output, temp, input), subfolder and name."""

from __future__ import annotations

import random
import string
import uuid
from collections.abc import Collection
from pathlib import PurePosixPath

from .media import Image, media_content


class FileStore:
    """`present` are the model and input files that are there from the start; None: every one that a workflow names."""

    def __init__(self, present: Collection[str] | None) -> None:
        self.present = None if present is None else set(present)
        self.temp_prefix = f"ComfyUI_temp_{''.join(random.choices(string.ascii_lowercase, k=5))}"
        """What the names of temporary files begin with, for one life of the server."""
        self._contents: dict[tuple[str, str, str], bytes | Image] = {}
        self._counters: dict[tuple[str, str], int] = {}

    def input_files(self) -> set[str] | None:
        """The names that an input may have: what is there from the start, and uploads."""
        uploads = {name for folder, _, name in self._contents if folder == "input"}
        return None if self.present is None else self.present | uploads

    def read(self, folder: str, subfolder: str, name: str) -> bytes | None:
        content = self._contents.get((folder, subfolder, name))
        return content.png() if isinstance(content, Image) else content

    def save(
        self, prefix: str, suffix: str, image: Image | None = None, *, temporary: bool, mark: str = "_"
    ) -> dict[str, str]:
        """Stores a file under the next free name of its prefix and returns what a client is sent of it; *mark* stands
        behind the number."""
        folder = "temp" if temporary else "output"
        path = PurePosixPath(prefix.replace("\\", "/"))
        subfolder = "" if str(path.parent) == "." else str(path.parent)
        count = self._counters[folder, prefix] = self._counters.get((folder, prefix), 0) + 1
        name = f"{path.name or 'ComfyUI'}_{count:05}{mark}.{suffix}"
        self._contents[folder, subfolder, name] = image or media_content(suffix)
        return {"filename": name, "subfolder": subfolder, "type": folder}

    def save_preview(self, prefix: str, suffix: str, *, temporary: bool) -> str:
        """Stores a preview of a 3D model under a random name, which is returned."""
        name = f"{prefix}_{uuid.uuid4().hex}.{suffix}"
        self._contents["temp" if temporary else "output", "", name] = media_content(suffix)
        return name

    def upload(self, folder: str, subfolder: str, name: str, content: bytes, *, overwrite: bool) -> str:
        """Stores an upload and returns its name: a taken one gets a number, unless the content is the same."""
        stem, dot, suffix = name.rpartition(".")
        count = 0
        while not overwrite and self._contents.get((folder, subfolder, name), content) != content:
            count += 1
            name = f"{stem} ({count}){dot}{suffix}"
        self._contents[folder, subfolder, name] = content
        return name
