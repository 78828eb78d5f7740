"""File names made of what a server sends, which is not to be trusted; and how a name gets a number. Pure."""

from __future__ import annotations

import os
import re
from pathlib import Path

from comfyreport.files import is_device_name

_NAME_LIMIT = 200
_PART_LIMIT = 100
_SUFFIX_LIMIT = 20
# What Windows lacks; and `##[`, on which GitHub's runner acts wherever it stands in what a step prints.
_UNSAFE = re.compile(r'[<>:"/\\|?*]|(?<=##)\[')


def safe_name(name: str) -> str:
    """The server's *name* of a file as a plain file name: no folders, no device, nothing unprintable, not too long."""
    last = re.split(r"[/\\]", name)[-1]
    clean = _clean(last) or "output"
    if is_device_name(clean):
        clean = f"_{clean}"
    stem, suffix = os.path.splitext(clean)
    suffix = suffix[:_SUFFIX_LIMIT].rstrip(" .")
    room = _NAME_LIMIT - len(suffix.encode())
    return (stem.encode()[:room].decode("utf-8", "ignore") + suffix).rstrip(" .")


def safe_part(text: str) -> str:
    """*text* as a part of a file name: it leads to no other folder, and nothing in it is unprintable."""
    return _clean(text).encode()[:_PART_LIMIT].decode("utf-8", "ignore").strip(" .")


def _clean(text: str) -> str:
    return "".join(each if each.isprintable() else "_" for each in _UNSAFE.sub("_", text)).strip(" .")


def in_file_system(name: str) -> str:
    """*name* so that the file system takes it, whatever encoding the locale has: as UTF-8."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return os.fsdecode(name.encode())
    return name


def numbered(path: Path, number: int) -> Path:
    """*path* with a number before its ending, from 2 on."""
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
