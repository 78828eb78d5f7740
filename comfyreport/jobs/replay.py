"""Playing a recording through the reporters of a session, at its own pace or another."""

from __future__ import annotations

import contextlib
import queue
import time

from comfyreport.events import ErrorInfo
from comfyreport.jobs.session import Session
from comfyreport.recording.player import Player, Recording
from comfyreport.run.verdict import Verdict
from comfyreport.worker import take


class Stop:
    """A request to stop that a signal handler may set: `SimpleQueue.put` is reentrant, `threading.Event.set` isn't."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.is_set = False

    def set(self) -> None:
        """Request the stop."""
        self.is_set = True
        self._queue.put(None)

    def wait(self, seconds: float) -> None:
        """Wait for the request, at most *seconds*."""
        if not self.is_set:
            with contextlib.suppress(queue.Empty):
                take(self._queue, seconds)


def replay(session: Session, recording: Recording, *, speed: float, stop: Stop) -> None:
    """Publish the recorded run's events, *speed* times as fast as they came (0: at once), until *stop* is set."""
    player = Player(recording, sequence=session.sequence, previews=session.wants("node_preview"))
    began = time.monotonic()
    if speed:
        session.use_clock(lambda: (time.monotonic() - began) * speed)

    def wait(seconds: float) -> bool:
        if speed:
            stop.wait(max(0.0, began + seconds / speed - time.monotonic()))
        else:
            session.use_clock(lambda: seconds)
        if stop.is_set:
            error = ErrorInfo(code="cancelled", message="the replay was stopped by the user")
            player.run.conclude(Verdict("cancelled", error, "none", "no"))
        return not stop.is_set

    for event in player.events(wait):
        session.publish([event])
        for warning in session.watch():
            session.complain(warning)
