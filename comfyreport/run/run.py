"""Run: the one state model. Messages and responses go in with their time, events come out. No I/O, no clock.

`feed` never raises for what a server sent. Where an event comes from is in its `source`: `ws` for messages of the
socket, `http` for responses, `client` for what comfyreport knows by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from comfyreport import events as ev
from comfyreport.estimates.expected import Expected, Observation
from comfyreport.events import Instant
from comfyreport.protocol import messages, responses
from comfyreport.protocol.ui_outputs import OUTPUT_CHARACTERS, file_key
from comfyreport.run import http_handlers, socket_handlers
from comfyreport.run.node_times import node_times, usual_seconds
from comfyreport.run.state import RunState
from comfyreport.run.verdict import Verdict

E = TypeVar("E", bound=ev.Event)
RunInput = messages.Message | responses.Accepted | responses.Refused | responses.Queue | responses.History

# Messages under another prompt's id that are kept until the server has answered which id it gave: a few seconds' worth.
_EARLY_LIMIT = 1000


class Run(RunState):
    """One prompt from its submission to its end."""

    def feed(self, message: RunInput, at: Instant) -> list[ev.Event]:
        """Take one message or response in; the events that it makes, in order."""
        if self.finished or self.verdict is not None:
            return []
        prompt_id = getattr(message, "prompt_id", None)
        if prompt_id is not None and prompt_id != self.prompt_id and not isinstance(message, responses.Accepted):
            self._keep_early(message)
            return []
        handler = http_handlers.HANDLERS.get(type(message))
        if handler is None:
            self._stamp(at, "ws")
            socket_handlers.handle(self, message)  # type: ignore[arg-type]
        else:
            self._stamp(at, "http")
            handler(self, message)
        return self.emitter.take()

    def _keep_early(self, message: RunInput) -> None:
        """Messages may come before the answer that says which id the server gave."""
        if (
            not self.accepted
            and len(self.early_messages) < _EARLY_LIMIT
            and type(message) not in http_handlers.HANDLERS
        ):
            self.early_messages.append(message)  # type: ignore[arg-type]

    def _stamp(self, at: Instant, source: ev.Source) -> None:
        """Set what the events that follow have in common."""
        emitter = self.emitter
        emitter.at = at
        emitter.source = source
        emitter.prompt_id = self.prompt_id if self.sent or self.queued_at is not None else None

    # --- what comfyreport itself adds

    def emit(self, cls: Callable[..., E], at: Instant, **fields: Any) -> list[ev.Event]:
        """An event that no message makes (`warning`, `connection_changed`, `heartbeat`), in the run's order."""
        if self.finished:
            return []
        self._stamp(at, "client")
        self.emitter.emit(cls, **fields)
        return self.emitter.take()

    def heartbeat(
        self,
        at: Instant,
        silent: float,
        upload: tuple[int, int] | None = None,
        download: tuple[int, int | None] | None = None,
    ) -> list[ev.Event]:
        """Nothing was heard from the server for *silent* seconds, and comfyreport is still there.

        :param upload: the bytes of the submission that are sent, and all of them, while it is being sent.
        :param download: the bytes that came of the files that are being fetched, and all of them, where that is known.
        """
        sent, total = upload or (None, None)
        received, total = (None, total) if download is None else download
        active = next(iter(reversed(self.nodes.active.values())), None)
        return self.emit(
            ev.Heartbeat,
            at,
            node=None if active is None else active.ref,
            silent_seconds=round(silent, 1),
            node_seconds=None if active is None else round(at.elapsed - active.started, 1),
            state="running" if self.started else "queued" if self.queued else "unknown",
            sent_bytes=sent,
            total_bytes=total,
            received_bytes=received,
        )

    @property
    def expected_silence(self) -> float:
        """Seconds of silence that are usual at the pace of the bars that move; 0 if nothing is known of that."""
        return max((node.expected_silence for node in self.nodes.active.values()), default=0.0)

    def saved(self, index: int | None, output: ev.Output, at: Instant) -> list[ev.Event]:
        """The output at *index* of `outputs` is on disk; None: history hasn't told of it yet."""
        ready: list[ev.Event] = []
        if index is None:
            self.saved_early.append(output)
            ready = self.emit(ev.OutputReady, at, output=replace(output, path=None, path_bytes=None, bytes=None))
        else:
            self.outputs[index] = output
        return ready + self.emit(ev.OutputSaved, at, output=output)

    def take_pictures(self) -> list[tuple[ev.Output, bytes]]:
        """The pictures that came over the socket since the last time."""
        pictures, self.pictures = self.pictures, []
        return pictures

    def output_like(self, node: str, filename: str, subfolder: str | None, folder: str | None) -> ev.Output | None:
        """The output that is this file, as the socket told of it; before history does."""
        key = (node, filename, subfolder, folder)
        known = [*(self.nodes.node(node).outputs if self.nodes.is_submitted(node) else ()), *self.outputs]
        return next((output for output in known if file_key(output) == key), None)

    def expect(self, expected: Mapping[str, Expected]) -> None:
        """Take in how long the nodes are expected to take; without it they are judged by their classes alone."""
        self.nodes.expect(expected)

    def observations(self) -> list[Observation]:
        """What was seen of the nodes; of a success alone, for in others a loop may have been left half way."""
        done = self.verdict is not None and self.verdict.status in ("success", "partial")
        return self.nodes.observations() if done else []

    def conclude(self, decided: Verdict) -> None:
        """Set the verdict where it doesn't come from history; an earlier one stands."""
        if self.verdict is None:
            self.verdict = decided

    def finish(self, at: Instant) -> list[ev.Event]:
        """End the run: emit `run_finished`. A run without a verdict is a fault of comfyreport and says so."""
        if self.finished:
            return []
        self._stamp(at, "client")
        decided = self.verdict or Verdict(
            "internal", ev.ErrorInfo(code="internal", message="the run ended without a verdict"), "unknown", "unknown"
        )
        # Of a success the last ends are only not heard.
        cut_short = () if decided.status in ("success", "partial") else tuple(self.nodes.active)
        for node in list(self.nodes.active.values()):
            self.nodes.stop(node, at.elapsed)
        self.merge_saved_early()
        self._warn_of_left_out()
        queue_seconds, seconds = self.times(at.elapsed)
        self.emitter.emit(
            ev.RunFinished,
            status=decided.status,
            exit_code=decided.exit_code,
            error=decided.error,
            outputs=tuple(self.outputs),
            executed=tuple(self.nodes.executed),
            cached=tuple(self.nodes.cached),
            queue_seconds=queue_seconds,
            seconds=seconds,
            node_seconds=self.nodes.seconds(),
            node_times=node_times(self.nodes, cut_short),
            usual_seconds=usual_seconds(self.nodes, at.elapsed),
            prompt_state=decided.prompt_state,
            submitted=decided.submitted,
            retryable=decided.retryable,
            seed=self.seed,
            output_nodes=tuple(ref.id for ref in self.manifest if ref.id in self.output_nodes) or None,
            inputs=self.inputs or None,
            workflow=self.workflow,
        )
        self.finished = True
        return self.emitter.take()

    def _warn_of_left_out(self) -> None:
        """Say how many outputs are told nowhere, because all of them together would be too large."""
        lists = (
            (self.output_collection.limit, "the run's outputs"),
            (self.node_events.output_limit, "node_finished events"),
        )
        for limit, where in lists:
            if limit.left_out:
                words = f"{limit.left_out} outputs are left out of {where}"
                self.emitter.warn("outputs_left_out", f"{words}, which have {OUTPUT_CHARACTERS} characters at most")

    def times(self, now: float) -> tuple[float | None, float]:
        """Seconds in the queue, and from the submission to the end: the server's where it sent them."""
        if self.server_seconds is not None:
            return self.server_queue_seconds, self.server_seconds
        started, queued = self.started_at, self.queued_at
        waited = None if started is None or queued is None else round(started - queued, 3)
        return waited, round(now - (queued or 0.0), 3)
