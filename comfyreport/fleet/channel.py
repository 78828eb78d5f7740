"""How a worker and its command hear of one another: the small protocol of it, and the one of a folder both can see."""

from __future__ import annotations

import contextlib
import os
import pickle
import time
import uuid
from pathlib import Path
from typing import Literal, Protocol

from comfyreport.fleet.assignment import Message, Note

Stop = Literal["", "waiting", "all"]
"""What is to be cancelled: nothing, prompts that wait, or whatever there is."""

_MESSAGE = ".message"
_KEPT = ".kept"
_POLL = 0.02


class Channel(Protocol):
    """What one attempt at a run has of its command. What it calls may block, and raises OSError where it fails.

    `pause`: seconds between two looks at what the command wants cancelled.
    """

    pause: float

    def send(self, message: Message) -> None:
        """Tell *message* to the command."""

    def note(self) -> Note | None:
        """The note of an earlier attempt at this run, if it left one."""

    def keep(self, note: Note | None) -> None:
        """Keep *note* for the next attempt, until the run has ended; None: there is nothing to be looked for."""

    def may_submit(self, prompt_id: str, seconds: float) -> bool:
        """Whether the command has kept where that prompt will be; that is waited for so many seconds at most."""

    def stop(self) -> Stop:
        """What the command wants cancelled."""


class FolderChannel:
    """A folder of the command: a file for each message, note and wish. Workers of one machine see it, threads too."""

    pause = 0.2

    def __init__(self, folder: str, index: int = 0) -> None:
        self._folder = Path(folder)
        self._note = self._folder / f"{index}.note"

    def send(self, message: Message) -> None:
        """Tell *message* to the command."""
        # Names in the order of their numbers; no two attempts at a run are made at once.
        self._write(self._folder / f"{message.index}-{message.number:09}-{uuid.uuid4().hex}{_MESSAGE}", message)

    def receive(self) -> list[Message]:
        """The messages that came, those of one attempt in their order. For the command alone."""
        messages: list[Message] = []
        # On Windows somebody may hold a file for a moment.
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(self._folder)):
                if name.endswith(_MESSAGE):
                    path = self._folder / name
                    data = path.read_bytes()
                    path.unlink()
                    messages.append(pickle.loads(data))
        return messages

    def note(self) -> Note | None:
        """The note of an earlier attempt at this run, if it left one."""
        with contextlib.suppress(FileNotFoundError):
            note: Note = pickle.loads(self._note.read_bytes())
            return note
        return None

    def keep(self, note: Note | None) -> None:
        """Keep *note* for the next attempt; None: there is nothing to be looked for."""
        if note is None:
            self._note.unlink(missing_ok=True)
        else:
            # On another machine there is no such folder, and no other attempt.
            with contextlib.suppress(FileNotFoundError):
                self._write(self._note, note)

    def may_submit(self, prompt_id: str, seconds: float) -> bool:
        """Whether the command has kept where that prompt will be; without the folder nothing of it can be known."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self._folder.exists():
            if (self._folder / f"{prompt_id}{_KEPT}").exists():
                return True
            time.sleep(_POLL)
        return not self._folder.exists()

    def confirm(self, prompt_id: str) -> None:
        """Let the prompt be submitted. For the command alone."""
        (self._folder / f"{prompt_id}{_KEPT}").touch()

    def stop(self) -> Stop:
        """What the command wants cancelled."""
        stops: tuple[Stop, ...] = ("all", "waiting")
        return next((stop for stop in stops if (self._folder / stop).exists()), "")

    def ask_to_stop(self, stop: Stop) -> None:
        """Tell all workers what is to be cancelled. For the command alone."""
        if stop:
            (self._folder / stop).touch()

    def _write(self, path: Path, content: object) -> None:
        """Whole or not at all: it is read while it is written."""
        part = path.with_name(uuid.uuid4().hex)
        part.write_bytes(pickle.dumps(content))
        part.replace(path)
