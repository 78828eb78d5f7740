"""What of a run is to be saved: which outputs are fetched at once, and which one gets its name next. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum

from comfyreport.events import Output
from comfyreport.protocol.ui_outputs import FileKey, file_key
from comfyreport.saving.target import Part, Spot

AT_ONCE = 4
"""Files that are fetched at the same time; and so many pictures that came over the socket are written."""


class State(Enum):
    """How far an output is."""

    WAITING = "waiting"
    FETCHING = "fetching"
    FETCHED = "fetched"
    NAMING = "naming"
    POSTPONED = "postponed"
    DONE = "done"


class Entry:
    """One output: `place` is where the run's outputs have it, once they are known. `picture`: its bytes, if they came.

    Of a file that is fetched, `received` bytes are there, of `size`. `dropped`: it is of no use any more.
    """

    __slots__ = ("dropped", "output", "part", "picture", "place", "received", "size", "spot", "state")

    def __init__(self, output: Output, picture: bytes | None = None) -> None:
        self.output = output
        self.picture = picture
        self.place: int | None = None
        self.spot: Spot | None = None
        self.part: Part | None = None
        self.state = State.WAITING
        self.received = 0
        self.size: int | None = None
        self.dropped = False


class SaveQueue:
    """The outputs of one run, in the order in which they get their names.

    `naming`: whether names are given; not before `settle` where the first one is another's than those that follow.
    """

    def __init__(self, *, naming: bool) -> None:
        self.naming = naming
        self._entries: list[Entry] = []
        self._known: set[FileKey] = set()
        self._files: deque[Entry] = deque()
        self._pictures: deque[Entry] = deque()
        self._fetching: set[Entry] = set()
        self._named: Entry | None = None
        self._first = 0

    def offer(self, output: Output, picture: bytes | None = None) -> None:
        """Add an output of which the socket tells, if it is new."""
        if file_key(output) not in self._known:
            self._known.add(file_key(output))
            self._add(Entry(output, picture))

    def _add(self, entry: Entry) -> None:
        self._entries.append(entry)
        if entry.state is State.WAITING:
            (self._files if entry.picture is None else self._pictures).append(entry)

    def settle(self, outputs: Sequence[Output], wanted: Iterable[int]) -> list[Entry]:
        """Take the outputs at the *wanted* places of *outputs* for what there is, in that order; the entries.

        Of what the socket told besides, only what is fetched already stays.
        """
        early: dict[FileKey, deque[Entry]] = {}
        for entry in self._entries:
            early.setdefault(file_key(entry.output), deque()).append(entry)
        self._entries, self._first, self.naming = [], 0, True
        self._files.clear()
        self._pictures.clear()
        for place in wanted:
            same = early.get(file_key(outputs[place]))
            entry = same.popleft() if same else Entry(outputs[place])
            entry.output, entry.place = outputs[place], place
            if entry.state is State.POSTPONED:
                entry.state = State.WAITING
            self._add(entry)
        for entry in (entry for entries in early.values() for entry in entries):
            if entry.state in (State.FETCHED, State.NAMING):
                self._add(entry)
            entry.dropped = entry.state in (State.WAITING, State.FETCHING)
            self._fetching.discard(entry)
        return self._entries

    def next_to_fetch(self) -> Entry | None:
        """What is to be fetched now, if there is anything."""
        pictures = sum(entry.picture is not None for entry in self._fetching)
        for waiting, busy in ((self._pictures, pictures), (self._files, len(self._fetching) - pictures)):
            if waiting and busy < AT_ONCE:
                entry = waiting.popleft()
                entry.state = State.FETCHING
                self._fetching.add(entry)
                return entry
        return None

    def next_to_name(self) -> Entry | None:
        """What is to have its name now, if there is anything; one at a time, each behind those before it."""
        first = self._next
        if not self.naming or self._named is not None or first is None or first.state is not State.FETCHED:
            return None
        self._named, first.state = first, State.NAMING
        return first

    def fetched(self, entry: Entry, part: Part) -> None:
        """It is there, and may have its name."""
        self._fetching.discard(entry)
        entry.part, entry.picture, entry.state = part, None, State.FETCHED

    def done(self, entry: Entry, *, postponed: bool = False) -> None:
        """It is saved, or has failed; *postponed*: it is tried again once all outputs are known."""
        self._fetching.discard(entry)
        self._named = None if self._named is entry else self._named
        entry.part, entry.picture = None, None
        entry.state = State.POSTPONED if postponed else State.DONE

    def stop(self) -> list[Entry]:
        """Begin with nothing more; what is given up with that."""
        given_up = [entry for entry in self._entries if entry.state in (State.WAITING, State.FETCHED)]
        self._files.clear()
        self._pictures.clear()
        for entry in given_up:
            self.done(entry)
        return given_up

    @property
    def open(self) -> bool:
        """Whether there is anything left to do."""
        return self._next is not None

    @property
    def _next(self) -> Entry | None:
        while self._first < len(self._entries):
            entry = self._entries[self._first]
            if entry.state not in (State.DONE, State.POSTPONED):
                return entry
            self._first += 1
        return None

    @property
    def progress(self) -> tuple[int, int | None] | None:
        """The bytes that came of the files that are being fetched, and how many they have, where that is known."""
        if not self._fetching:
            return None
        sizes = [entry.size for entry in self._fetching if entry.size is not None]
        total = sum(sizes) if len(sizes) == len(self._fetching) else None
        return sum(entry.received for entry in self._fetching), total
