"""Saving a run's outputs, one after the other, while the user may still stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from comfyreport import events as ev
from comfyreport.errors import UnreachableError
from comfyreport.events import ErrorInfo, Instant
from comfyreport.outputs import Target, save, worth_saving
from comfyreport.recording import Recorder
from comfyreport.run import Run
from comfyreport.verdict import timed_out_while_saving
from comfyreport.wires import Done, Left, Signalled, Wires


class Saver:
    """Saves what *run* made, and changes its verdict where that fails: the verdict's last word.

    :param pulse: called several times a second meanwhile.
    :param overtime: the user's limit for the whole run in seconds, once it is over.
    """

    def __init__(
        self,
        run: Run,
        wires: Wires,
        *,
        publish: Callable[[Sequence[ev.Event]], None],
        clock: Callable[[], Instant],
        pulse: Callable[[], None],
        recorder: Recorder | None,
        overtime: Callable[[], float | None],
    ) -> None:
        self._run = run
        self._wires = wires
        self._publish = publish
        self._clock = clock
        self._pulse = pulse
        self._recorder = recorder
        self._overtime = overtime
        self._limit: float | None = None
        self._stop = threading.Event()

    def save(self, target: Target) -> None:
        """Save all outputs that are worth it to *target*."""
        failed: list[str] = []
        for index in worth_saving(self._run.outputs):
            output = self._run.outputs[index]
            path = target.place(output)
            error = self._save_one(index, output, path)
            if self._stop.is_set():
                break
            if error is not None:
                failed.append(str(output.filename))
                message = f"{output.filename} could not be saved to {path}: {error}"
                told = self._run.tell(
                    ev.Warning, self._clock(), code="download_failed", message=message, node=output.node
                )
                self._publish(told)
        self._amend(failed)

    def _save_one(self, index: int, output: ev.Output, path: Path) -> BaseException | None:
        self._wires.errand("save", lambda: save(output, path, self._pieces))
        while True:
            self._pulse()
            if self._limit is None and not self._stop.is_set():
                self._limit = self._overtime()
                if self._limit is not None:
                    self._end()
            for item in self._wires.receive(0.1):
                if isinstance(item, (Signalled, Left)):
                    self._end()
                elif isinstance(item, Done) and item.name == "save":
                    self._wires.busy.discard("save")
                    if item.error is None:
                        self._saved(index, item.value)
                    return item.error

    def _end(self) -> None:
        """Save no more; what is half saved goes."""
        self._stop.set()
        self._wires.client.cut()

    def _saved(self, index: int, saved: ev.Output) -> None:
        if self._recorder is not None:
            self._recorder.note("saved", index=index, path=saved.path, bytes=saved.bytes)
        self._publish(self._run.saved(index, saved, self._clock()))

    def _pieces(self, filename: str, subfolder: str, folder: str) -> Iterator[bytes]:
        for piece in self._wires.client.download(filename, subfolder, folder):
            if self._stop.is_set():
                raise UnreachableError("stopped by the user", code="cancelled")
            yield piece

    def _amend(self, failed: list[str]) -> None:
        """Change the verdict by what saving showed."""
        verdict = self._run.verdict
        if verdict is None or verdict.status not in ("success", "partial"):
            return
        if self._limit is not None:
            self._run.verdict = timed_out_while_saving(self._limit)
        elif self._stop.is_set():
            error = ErrorInfo(code="cancelled", message="stopped by the user before all outputs were saved")
            self._run.verdict = verdict._replace(status="cancelled", error=error)
        elif failed and verdict.status == "success":
            error = ErrorInfo(
                code="download_failed",
                message=f"the run succeeded, but these outputs could not be saved: {', '.join(failed)}",
                hint="fetch them from the URLs of the outputs",
            )
            self._run.verdict = verdict._replace(status="partial", error=error, retryable=True)
