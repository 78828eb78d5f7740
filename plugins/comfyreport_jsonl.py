"""The `jsonl` reporter: the event stream as JSON lines, for programs and agents."""

from __future__ import annotations

import math
from typing import Literal

from comfyreport import AnyEvent, Event, ReporterError, Stream, Thinner, hookimpl, stdout, to_line

Detail = Literal["summary", "nodes", "steps"]

# run_finished has every output too, so a summary leaves out output_ready.
_SUMMARY = frozenset(
    {
        "stream_started",
        "run_queued",
        "run_started",
        "warning",
        "output_saved",
        "run_finished",
        "stream_finished",
    }
)
_NODES = _SUMMARY | {"node_cached", "node_started", "node_text", "node_finished", "output_ready"}
_TYPES: dict[Detail, frozenset[str] | None] = {"summary": _SUMMARY, "nodes": _NODES, "steps": None}


class JsonLines:
    """Writes one line an event, flushed, in the order of `seq`."""

    def __init__(self, out: Stream, detail: Detail, rate: float) -> None:
        self._out = out
        self._types = _TYPES[detail]
        # For a large workflow, these would be longer than all the rest of a summary.
        self._without = ("nodes", "node_seconds", "node_times", "inputs") if detail == "summary" else ()
        self._thinner = Thinner(rate)

    @hookimpl
    def comfyreport_event(self, event: AnyEvent) -> None:
        """Write *event*, or hold it back if it is a progress that comes too soon."""
        if self._types is None or event.type in self._types:
            self._write(self._thinner.feed(event))

    @hookimpl
    def comfyreport_tick(self, elapsed: float) -> None:
        """Write what was held back long enough, so that a reader never sees an old step for long."""
        self._write(self._thinner.tick(elapsed))

    @hookimpl
    def comfyreport_close(self) -> None:
        """Write what is still held back, and close."""
        self._write(self._thinner.flush())
        self._out.close()

    def _write(self, events: list[Event]) -> None:
        for event in events:
            self._out.write_bytes(to_line(event, without=self._without))
            self._out.flush()


def jsonl(out: Stream = stdout, *, detail: Detail = "steps", rate: float = 10) -> JsonLines:
    """The event stream as JSON lines; `comfyreport schema` prints its JSON Schema.

    :param detail: `summary` (start, saved outputs, warnings, end), `nodes` (each node too), `steps` (everything)
    :param rate: node_progress lines a second for each node, the newest ones; 0 writes all of them
    """
    if not (math.isfinite(rate) and rate >= 0):
        raise ReporterError(f"jsonl: rate={rate} can't be used", hint="give the lines a second, or 0 for all of them")
    return JsonLines(out, detail, rate)
