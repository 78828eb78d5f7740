"""A reporter that keeps what it is told, for tests of calls from Python."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from comfyreport import Event, hookimpl


class Collector:
    """Keeps all events, and acts on them.

    `threads` are the names of those that called it, and `closed` how often it was closed.
    """

    def __init__(self, act: Callable[[Any], None] = lambda event: None) -> None:
        self.events: list[Any] = []
        self.threads: set[str] = set()
        self.closed = 0
        self._act = act

    @hookimpl
    def comfyreport_event(self, event: Event) -> None:
        self.threads.add(threading.current_thread().name)
        self.events.append(event)
        self._act(event)

    @hookimpl
    def comfyreport_close(self) -> None:
        self.closed += 1

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    @property
    def warnings(self) -> list[str]:
        """The codes of the warnings."""
        return [event.code for event in self.events if event.type == "warning"]
