"""Saving a run's outputs, one after the other, while the user may still stop it."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from functools import partial

from comfyreport import events as ev
from comfyreport.engine.sources import CallDone, CallKind, LeaveRequested, Sources, StopRequested
from comfyreport.errors import UnreachableError
from comfyreport.events import ErrorInfo, Instant
from comfyreport.protocol.downloads import FilePlace
from comfyreport.protocol.ui_outputs import worth_saving
from comfyreport.recording.recorder import Recorder
from comfyreport.run import Run
from comfyreport.run.verdict import timed_out_while_saving
from comfyreport.saving.fetching import fetch
from comfyreport.saving.target import Spot, Target, check_room

# Names of files that one message tells.
_NAMES_SHOWN = 10


class Downloader:
    """Saves what *run* made, and changes its verdict where that fails: the verdict's last word.

    Where nothing else is told for `Timing.silence` seconds, a heartbeat is. A server that hasn't answered for
    `Timing.lost_after` seconds is asked for no more.

    :param on_turn: called several times a second meanwhile.
    :param exceeded_limit: the user's limit for the whole run in seconds, once it is over.
    """

    def __init__(
        self,
        run: Run,
        sources: Sources,
        *,
        publish: Callable[[Sequence[ev.Event]], None],
        clock: Callable[[], Instant],
        on_turn: Callable[[], None],
        recorder: Recorder | None,
        exceeded_limit: Callable[[], float | None],
    ) -> None:
        self._run = run
        self._sources = sources
        self._publish = publish
        self._clock = clock
        self._on_turn = on_turn
        self._recorder = recorder
        self._exceeded_limit = exceeded_limit
        self._timing = sources.client.timing
        self._limit: float | None = None
        self._unanswered: float | None = None
        self._last_data_at = self._last_event_at = clock().elapsed
        self._stop = threading.Event()
        self._cause = ""

    def save(self, target: Target) -> None:
        """Save all outputs that are worth it to *target*."""
        failed: list[str] = []
        waiting = deque(worth_saving(self._run.outputs))
        if target.single and len(waiting) > 1:
            failed = [str(self._run.outputs[index].filename) for index in waiting]
            self._cause = f"--output {target} takes one file"
            self._warn(f"{len(waiting)} files were not saved: {self._cause}")
            waiting.clear()
        elif not waiting and self._run.outputs and self._succeeded:
            # Where there is nothing at all, the run says so itself.
            self._emit_warning("no_outputs", "nothing was saved: the run made no files")
        while waiting and not self._stopped:
            index = waiting.popleft()
            output = self._run.outputs[index]
            spot = target.spot(output)
            error = self._save_one(index, output, target, spot)
            if error is not None and (not self._stopped or self._unanswered is not None):
                failed.append(str(output.filename))
                reason = self._silence_reason or str(getattr(error, "strerror", None) or error)
                self._cause = self._cause or reason
                self._warn(f"{output.filename} could not be saved to {spot.shown}: {reason}", output.node)
        if waiting and self._unanswered is not None:
            failed += [str(self._run.outputs[index].filename) for index in waiting]
            self._warn(f"{len(waiting)} more files were not saved: {self._silence_reason}")
        self._amend_verdict(failed)

    def _save_one(self, index: int, output: ev.Output, target: Target, spot: Spot) -> BaseException | None:
        done: list[CallDone] = []

        def save() -> ev.Output:
            chunks = partial(self._chunks, spot)
            return target.save(output, spot, chunks, wait=self._wait, limit=self._timing.lost_after)

        self._sources.call(CallKind.SAVE, save, done.append)
        while not done:
            self._on_turn()
            self._check_time(self._clock())
            for item in self._sources.receive(0.1):
                if isinstance(item, (StopRequested, LeaveRequested)):
                    self._stop_saving()
                elif isinstance(item, CallDone) and item.kind is CallKind.SAVE:
                    self._sources.finish(item)
        error = done[0].error
        if error is None or not getattr(error, "retryable", False):
            self._last_data_at = self._clock().elapsed
        if error is None:
            self._saved(index, done[0].value)
        return error

    def _check_time(self, at: Instant) -> None:
        """Whether there is still time for it, and whether it is time for a heartbeat."""
        silent = max(0.0, at.elapsed - self._last_data_at)
        if not self._stopped:
            self._limit = self._exceeded_limit()
            if silent > self._timing.lost_after:
                self._unanswered = silent
            if self._limit is not None or self._unanswered is not None:
                self._stop_saving()
        if at.elapsed - self._last_event_at >= self._timing.silence:
            self._emit(self._run.heartbeat(at, silent))

    def _stop_saving(self) -> None:
        """Save no more; what is half saved goes."""
        self._stop.set()
        self._sources.client.cut()

    def _saved(self, index: int, saved: ev.Output) -> None:
        if self._recorder is not None:
            self._recorder.note("saved", index=index, path=saved.path, bytes=saved.bytes)
        self._emit(self._run.saved(index, saved, self._clock()))

    @property
    def _silence_reason(self) -> str:
        """Why nothing more is saved, if it is the server's silence."""
        return "" if self._unanswered is None else f"the server has not answered for {self._unanswered:.0f} s"

    def _warn(self, message: str, node: ev.NodeRef | None = None) -> None:
        self._emit_warning("download_failed", message, node)

    def _emit_warning(self, code: str, message: str, node: ev.NodeRef | None = None) -> None:
        self._emit(self._run.emit(ev.Warning, self._clock(), code=code, message=message, node=node))

    def _emit(self, events: Sequence[ev.Event]) -> None:
        self._last_event_at = self._clock().elapsed
        self._publish(events)

    def _chunks(self, spot: Spot, place: FilePlace) -> Generator[bytes, None, None]:
        fetched = fetch(self._sources.client, place, pause=self._pause, on_size=partial(check_room, spot))
        # Closed at once, not when the exception that ended it is forgotten: it holds a connection.
        with contextlib.closing(fetched) as chunks:
            for chunk in chunks:
                if self._stopped:
                    raise UnreachableError("stopped", code="cancelled")
                self._last_data_at = self._clock().elapsed
                yield chunk

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise UnreachableError("stopped", code="cancelled")

    def _wait(self) -> None:
        """Called while a pipe is written to: then it isn't the server that is silent."""
        if self._stopped:
            raise UnreachableError("stopped", code="cancelled")
        self._last_data_at = self._clock().elapsed

    @property
    def _stopped(self) -> bool:
        return self._stop.is_set()

    @property
    def _succeeded(self) -> bool:
        return self._run.verdict is not None and self._run.verdict.status == "success"

    def _amend_verdict(self, failed: list[str]) -> None:
        """Change the verdict by what saving showed."""
        verdict = self._run.verdict
        if verdict is None or verdict.status not in ("success", "partial"):
            return
        if self._limit is not None:
            self._run.verdict = timed_out_while_saving(self._limit)
        elif self._stopped and self._unanswered is None:
            error = ErrorInfo(code="cancelled", message="stopped by the user before all outputs were saved")
            self._run.verdict = verdict._replace(status="cancelled", error=error)
        elif failed and verdict.status == "success":
            names = ", ".join(failed[:_NAMES_SHOWN]) + (
                f" and {len(failed) - _NAMES_SHOWN} more" if len(failed) > _NAMES_SHOWN else ""
            )
            error = ErrorInfo(
                code="download_failed",
                message=f"the run succeeded, but these outputs could not be saved: {names}"
                + (f" ({self._cause})" if self._cause else ""),
                hint="fetch them from the URLs of the outputs",
            )
            self._run.verdict = verdict._replace(status="partial", error=error, retryable=True)
