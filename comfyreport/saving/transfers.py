"""Fetching and naming outputs on threads of their own, which may be told to stop."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator
from functools import partial

from comfyreport.errors import UnreachableError
from comfyreport.events import Output
from comfyreport.net.client import Client
from comfyreport.protocol.downloads import FilePlace
from comfyreport.saving.fetching import fetch
from comfyreport.saving.queue import Entry
from comfyreport.saving.target import Part, Spot, Target, check_room


class Transfers:
    """What is done for the entries of a `SaveQueue`, each call on any thread. `last_data_at`: when data came last.

    :param clock: seconds, for `last_data_at`.
    """

    def __init__(self, client: Client, target: Target, clock: Callable[[], float]) -> None:
        self._client = client
        self._target = target
        self._clock = clock
        self._stop = threading.Event()
        self.last_data_at = clock()

    def fetch(self, entry: Entry, spot: Spot) -> Part:
        """Fetch it, or write the picture that it is. Raises OSError and UnreachableError."""
        if entry.picture is not None:
            return self._target.receive(spot, [entry.picture])
        return self._target.fetch(entry.output, spot, partial(self._chunks, entry, spot))

    def put(self, entry: Entry) -> Output:
        """Give what was fetched its name; the output with its path. Raises OSError and UnreachableError."""
        assert entry.spot is not None
        assert entry.part is not None
        limit = self._client.timing.lost_after
        return self._target.put(entry.output, entry.part, entry.spot, wait=self.check, limit=limit)

    def _chunks(self, entry: Entry, spot: Spot, place: FilePlace) -> Generator[bytes, None, None]:
        def on_size(size: int) -> None:
            entry.size = size
            check_room(spot, size)

        entry.received = 0
        fetched = fetch(self._client, place, pause=self._pause, on_size=on_size)
        # Closed at once, not when the exception that ended it is forgotten: it holds a connection.
        with contextlib.closing(fetched) as chunks:
            for chunk in chunks:
                if entry.dropped:
                    raise _stopped()
                self.check()
                entry.received += len(chunk)
                yield chunk

    def check(self) -> None:
        """Called in between: it isn't the server that is silent. UnreachableError once it is to stop."""
        if self.stopped:
            raise _stopped()
        self.last_data_at = self._clock()

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _stopped()

    def stop(self) -> None:
        """End all of them, now and later; returns at once."""
        self._stop.set()
        self._client.cut()

    @property
    def stopped(self) -> bool:
        """Whether they are to stop."""
        return self._stop.is_set()


def _stopped() -> UnreachableError:
    return UnreachableError("stopped", code="cancelled")
