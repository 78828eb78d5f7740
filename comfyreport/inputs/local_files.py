"""Files of this machine that a workflow is to read: named by flags, looked at before anything is sent."""

from __future__ import annotations

import os
import stat
from typing import Literal, NamedTuple, get_args

from comfyreport.errors import UsageError
from comfyreport.files import expanded
from comfyreport.text import printable

Kind = Literal["image", "mask", "video", "audio"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_HEAD = 64
_PICTURES = (
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"qoif", b"8BPS",
    b"\xff\x0a", b"\0\0\0\x0cJXL ", b"\0\0\0\x0cjP  ", b"\0\0\1\0", b"\x76\x2f\x31\x01", b"#?RADIANCE", b"DDS ",
    *(b"P%d%c" % (number, space) for number in range(1, 8) for space in b" \n\r\t"),
)  # fmt: skip
_PICTURE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")
# Neither a video nor a sound, whatever else is one: there are too many formats to know them all.
_NO_MEDIA = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"%PDF", b"PK\3\4", b"\x1f\x8b", b"MZ", b"\x7fELF")
_WORDS: dict[Kind, str] = {"image": "picture", "mask": "picture", "video": "video", "audio": "sound"}


class Given(NamedTuple):
    """A file for a loader of the workflow: an id, a title or a class; *node* is empty where there is one of the kind.

    `text` is what was given, for messages.
    """

    kind: Kind
    node: str
    path: str
    text: str


class LocalFile(NamedTuple):
    """A file that is there and can be read; `shown` is its path for messages."""

    path: str
    shown: str
    size: int


def parse_given(kind: Kind, text: str) -> Given:
    """`FILE` or `NODE=FILE`. Where the names themselves have a `=`, what is there decides which one it is."""
    if "=" not in text or os.path.lexists(expanded(text)):
        return Given(kind, "", expanded(text), text)
    places = [place for place, each in enumerate(text) if each == "="]
    split = next((place for place in places if os.path.lexists(expanded(text[place + 1 :]))), places[0])
    return Given(kind, text[:split].strip(), expanded(text[split + 1 :]), text)


def look_at(given: Given, folder: str) -> LocalFile:
    """The file, which is one of its kind; UsageError where it isn't, or can't be read.

    :param folder: where relative paths start.
    """
    flag, shown = f"--{given.kind}", printable(given.path, 4096)
    if not given.path:
        raise UsageError(f"{flag} {printable(given.text, 200)} names no file", hint=f"{flag} [NODE=]FILE")
    try:
        found = _look(os.path.join(folder, given.path), shown)
    except FileNotFoundError:
        whole = f" ({printable(given.text, 200)})" if given.node else ""
        raise UsageError(
            f"{flag}: {shown} doesn't exist{whole}", hint="check the path; a relative one starts at the current folder"
        ) from None
    except PermissionError:
        raise UsageError(f"{flag}: {shown} may not be read", hint="check the permissions of the file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{flag}: {shown} can't be read: {reason}", hint="check the path and the disk") from None
    if isinstance(found, str):
        raise UsageError(f"{flag}: {shown} {found}", hint=f"name a {_WORDS[given.kind]} file")
    file, head = found
    if not is_of_kind(given.kind, head):
        word = _WORDS[given.kind]
        raise UsageError(f"{flag}: {shown} is no {word}", hint=f"name a {word} that the server can read")
    return file


def literal_file(kind: Kind, value: str, folder: str) -> LocalFile | None:
    """The file of this machine that a loader's own value names, if it is one of its kind."""
    if value.startswith(("\\\\", "//")):
        # On Windows such a path is another machine's, to which the user's name and a proof of the password would go.
        return None
    try:
        found = _look(os.path.join(folder, value), printable(value, 4096)) if value else ""
    except (OSError, ValueError):
        return None
    return found[0] if not isinstance(found, str) and is_of_kind(kind, found[1]) else None


def _look(path: str, shown: str) -> tuple[LocalFile, bytes] | str:
    """The file and its first bytes, or why it is none to be sent. Nothing is opened that may block."""
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        return "is a folder, not a file"
    if not stat.S_ISREG(status.st_mode):
        return "is no file with a size, which an upload needs"
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    return (LocalFile(path, shown, status.st_size), head) if head else "is empty"


def is_of_kind(kind: Kind, head: bytes) -> bool:
    """Whether a file that begins with *head* may be one of that kind; of videos and sounds, what is surely none."""
    if kind in ("image", "mask"):
        is_container = head[4:8] == b"ftyp" and head[8:12] in _PICTURE_BRANDS
        return head.startswith(_PICTURES) or is_container or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
    is_text = all(32 <= each < 127 or each in b"\t\r\n" for each in head)
    return not (is_text or head.startswith(_NO_MEDIA))
