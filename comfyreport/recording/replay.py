"""Playing a recording through the reporters of a session, at its own pace or another."""

from __future__ import annotations

import contextlib
import queue
import threading
import time

from comfyreport.engine.session import Session
from comfyreport.events import ErrorInfo
from comfyreport.recording.player import Player, Recording
from comfyreport.run.verdict import Verdict


class Stop:
    """A wish to stop that may be set in a signal handler, where an Event's lock might be held already."""

    def __init__(self) -> None:
        self._wish: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.wished = False

    def set(self) -> None:
        """Stop."""
        self.wished = True
        self._wish.put(None)

    def wait(self, seconds: float) -> None:
        """Wait for the wish, at most so long."""
        if not self.wished:
            with contextlib.suppress(queue.Empty):
                self._wish.get(timeout=min(seconds, threading.TIMEOUT_MAX))


def replay(session: Session, recording: Recording, *, speed: float, stop: Stop) -> None:
    """Tell the recorded run's events, *speed* times as fast as they came (0: at once), until *stop* is set."""
    player = Player(recording, sequence=session.sequence, previews=session.wants("node_preview"))
    began = time.monotonic()
    if speed:
        session.use_clock(lambda: (time.monotonic() - began) * speed)

    def wait(seconds: float) -> bool:
        if speed:
            stop.wait(max(0.0, began + seconds / speed - time.monotonic()))
        else:
            session.use_clock(lambda: seconds)
        if stop.wished:
            error = ErrorInfo(code="cancelled", message="the replay was stopped by the user")
            player.run.conclude(Verdict("cancelled", error, "none", "no"))
        return not stop.wished

    for event in player.events(wait):
        session.publish([event])
        for warning in session.watch():
            session.complain(warning)
