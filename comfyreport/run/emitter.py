"""Making events: their number, their time, their source, and how far the run is. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from comfyreport import events as ev
from comfyreport.events import Instant
from comfyreport.events.records import positional
from comfyreport.run.nodes import Nodes

E = TypeVar("E", bound=ev.Event)

_NO_ESTIMATE = (None, None, None, None)
# The order is that of the fields; a test compares it with `emit`.
_node_progress = positional(ev.NodeProgress)


class Emitter:
    """Makes the events of one run and keeps them until they are taken.

    `at`, `source` and `prompt_id` are those of all events that are made from now on; `prompt_id` is None as long as
    nothing was submitted.
    """

    def __init__(self, nodes: Nodes, sequence: Iterator[int], run_index: int | None) -> None:
        self.at = Instant(0.0, 0.0)
        self.source: ev.Source = "ws"
        self.prompt_id: str | None = None
        self._nodes = nodes
        self._sequence = sequence
        self._run_index = run_index
        self._new: list[ev.Event] = []

    def emit(self, cls: Callable[..., E], **fields: Any) -> None:
        """Make an event of *cls* with what all events have in common and *fields*."""
        if issubclass(cls, ev.ProgressEvent):  # type: ignore[arg-type]
            nodes = self._nodes
            estimate = nodes.estimate(self.at.elapsed)
            fields.update(fraction=nodes.fraction, nodes_done=nodes.done, nodes_total=nodes.total)
            if estimate is not None:
                seconds, low, high, basis = estimate
                fields.update(run_eta_seconds=seconds, run_eta_low=low, run_eta_high=high, eta_basis=basis)
        self._new.append(
            cls(
                seq=next(self._sequence),
                time=self.at.time,
                elapsed=self.at.elapsed,
                prompt_id=self.prompt_id,
                source=self.source,
                run_index=self._run_index,
                **fields,
            )
        )

    def emit_progress(
        self, node: ev.NodeRef, step: float, max_steps: float, eta: float, pass_number: int, speed: float | None
    ) -> None:
        """`emit(NodeProgress, …)`, for the events that come by the thousands."""
        nodes, at = self._nodes, self.at
        # It is made first: the fraction is its other face.
        estimate = nodes.estimate(at.elapsed) or _NO_ESTIMATE
        self._new.append(
            _node_progress(
                next(self._sequence),
                at.time,
                at.elapsed,
                self.prompt_id,
                self.source,
                self._run_index,
                None,
                nodes.fraction,
                *estimate,
                nodes.done,
                nodes.total,
                step,
                max_steps,
                eta,
                node,
                pass_number,
                speed,
            )
        )

    def warn(self, code: str, message: str, node: ev.NodeRef | None = None) -> None:
        """Make a warning."""
        self.emit(ev.Warning, code=code, message=message, node=node)

    def take(self) -> list[ev.Event]:
        """The events that were made since the last time, in order."""
        new, self._new = self._new, []
        return new
