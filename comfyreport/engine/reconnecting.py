"""The socket as the loop sees it: opened, pinged, and opened anew when it broke."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from comfyreport import events as ev
from comfyreport.engine.liveness import Liveness
from comfyreport.engine.options import RunOptions
from comfyreport.engine.sources import SocketClosed, Sources
from comfyreport.errors import UnreachableError
from comfyreport.events import Instant
from comfyreport.net.failures import no_answer
from comfyreport.run import Run, verdict
from comfyreport.timers import Timers


class Reconnector:
    """Keeps a socket open, and ends the run where there never was one.

    `submitted`: the prompt is there already, so that a server that can't be reached leaves its state unknown.
    """

    def __init__(
        self,
        run: Run,
        sources: Sources,
        timers: Timers,
        liveness: Liveness,
        options: RunOptions,
        *,
        publish: Callable[[Sequence[ev.Event]], None],
        clock: Callable[[], Instant],
    ) -> None:
        self.submitted = False
        self._run = run
        self._sources = sources
        self._liveness = liveness
        self._publish = publish
        self._clock = clock
        self._timing = sources.client.timing
        usual = 0.0 if sources.client.address.loopback else self._timing.ping_interval
        self._ping_interval = usual if options.ping_interval is None else options.ping_interval
        self._wait = options.wait_for_server
        self._server_wait = timers.add(self._on_wait_over)
        self._reconnect = timers.add(sources.connect)
        self._next_ping = timers.add(self._ping)
        self._error: UnreachableError | None = None
        self._opened_at = 0.0
        self._delay = self._timing.reconnect_first

    def begin(self) -> None:
        """The wait for the server begins, if it is to be waited for."""
        if self._wait:
            self._server_wait.arm(self._wait)

    def opened(self) -> None:
        """The socket stands."""
        self._opened_at = self._clock().elapsed
        self._publish(self._liveness.opened(self._clock()))
        if self._ping_interval:
            self._next_ping.arm(self._ping_interval)

    def closed(self, item: SocketClosed) -> None:
        """The socket ended, or could not be opened: it is tried again."""
        if item.fault is not None:
            raise item.fault
        error = item.error or UnreachableError("the connection was closed at once", retryable=True)
        # A proxy may answer 404 or show a page for a server that is still starting; a login doesn't pass by waiting.
        waiting = self._server_wait.armed and (error.retryable or error.code == "not_comfyui")
        if not self._liveness.ever_open and not waiting:
            self._run.conclude(verdict.unreachable(error, sent=self.submitted))
            return
        self._error = error
        now = self._clock()
        if self._liveness.open and now.elapsed - self._opened_at > self._timing.reconnect_max:
            # It had stood for a while; one that breaks again and again is tried ever less often.
            self._delay = self._timing.reconnect_first
        self._publish(self._liveness.closed(item.error, now))
        self._reconnect.arm(self._delay * random.uniform(0.5, 1.0))
        self._delay = min(2 * self._delay, self._timing.reconnect_max)

    def _on_wait_over(self) -> None:
        """The server was waited for long enough."""
        if not self._liveness.ever_open:
            error = self._error or no_answer(self._sources.client.address.base)
            self._run.conclude(verdict.unreachable(error, sent=self.submitted))

    def _ping(self) -> None:
        if self._liveness.open:
            # One that can't be sent is noticed by the reader, or by silence: never by itself a failure.
            self._sources.ping(lambda done: None)
            self._next_ping.arm(self._ping_interval)
