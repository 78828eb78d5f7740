"""Saving a run's outputs: as soon as the socket tells of them, several at once, while the user may still stop it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from comfyreport import events as ev
from comfyreport.engine.sources import CallDone, CallKind, LeaveRequested, Sources, StopRequested
from comfyreport.events import Instant
from comfyreport.protocol.ui_outputs import SOCKET_SAVERS, with_path, worth_saving
from comfyreport.recording.recorder import Recorder
from comfyreport.run import Run, verdict
from comfyreport.saving.queue import Entry, SaveQueue
from comfyreport.saving.sidecar import run_fields, write_sidecars
from comfyreport.saving.target import Target
from comfyreport.saving.transfers import Transfers


class Downloader:
    """Saves what *run* made, and changes its verdict where that fails: the verdict's last word.

    What the socket tells of is fetched while the run goes on; that such a file can't be had then is no failure yet.
    Where nothing else is told for `Timing.silence` seconds at the end, a heartbeat is. A server that hasn't answered
    for `Timing.lost_after` seconds is asked for no more.

    :param on_turn: called several times a second while the end of all is waited for.
    :param exceeded_limit: the user's limit for the whole run in seconds, once it is over.
    """

    def __init__(
        self,
        run: Run,
        sources: Sources,
        target: Target,
        *,
        publish: Callable[[Sequence[ev.Event]], None],
        clock: Callable[[], Instant],
        on_turn: Callable[[], None],
        recorder: Recorder | None,
        exceeded_limit: Callable[[], float | None],
    ) -> None:
        self._run = run
        self._sources = sources
        self._target = target
        self._publish = publish
        self._clock = clock
        self._on_turn = on_turn
        self._recorder = recorder
        self._exceeded_limit = exceeded_limit
        self._timing = sources.client.timing
        self._queue = SaveQueue(naming=target.folder)
        # Before the end, only what can wait somewhere for its name is fetched.
        self._fetches = target.folder or target.waiting_room is not None
        self._settled = False
        self._saved_outputs: list[ev.Output] = []
        self._failed: list[str] = []
        self._given_up: list[str] = []
        self._limit: float | None = None
        self._unanswered: float | None = None
        self._transfers = Transfers(sources.client, target, lambda: clock().elapsed)
        self._last_event_at = clock().elapsed
        self._cause = ""
        run.keep_pictures = True

    # --- while the run goes on

    def take(self, events: Iterable[ev.Event]) -> None:
        """Begin with the outputs that *events* tell of, and with the pictures that came over the socket."""
        for event in events:
            for output in event.outputs if isinstance(event, ev.NodeFinished) else ():
                if output.filename is not None and (self._run.include_temp or output.folder != "temp"):
                    self._queue.offer(output)
        for picture, data in self._run.take_pictures():
            self._queue.offer(picture, data)
        self._go_on()

    def abandon(self) -> None:
        """Save no more, and wait for nothing."""
        self._stop_saving()

    # --- at its end

    def save(self) -> None:
        """Save all outputs that are worth it."""
        self._transfers.last_data_at = self._clock().elapsed
        self._settle()
        nothing = not (self._queue.open or self._saved_outputs or self._failed)
        if nothing and self._run.outputs and self._succeeded:
            # Where there is nothing at all, the run says so itself.
            self._emit_warning("no_outputs", "nothing was saved: the run made no files")
        self._go_on()
        while self._queue.open:
            self._turn()
        if self._given_up and self._unanswered is not None:
            self._failed += self._given_up
            self._warn(f"{len(self._given_up)} more files were not saved: {self._silence_reason}")
        self._note_missed_pictures()
        if self._target.origin is not None and self._saved_outputs and not self._stopped:
            self._write_sidecars()
        self._amend_verdict()

    def _settle(self) -> None:
        """Know all outputs, and in which order they get their names."""
        if self._settled:
            return
        self._settled = self._fetches = True
        run, target = self._run, self._target
        wanted = worth_saving(run.outputs, include_temp=run.include_temp)
        if target.single and len(wanted) > 1:
            self._failed += [str(run.outputs[index].filename) for index in wanted]
            self._cause = f"--output {target} takes one file"
            self._warn(f"{len(wanted)} files were not saved: {self._cause}")
            wanted = []
        for entry in self._queue.settle(run.outputs, wanted):
            if not target.folder:
                # In this order: the first one is the file that was named.
                entry.spot = target.spot(entry.output)

    def _turn(self) -> None:
        self._on_turn()
        self._check_time(self._clock())
        for item in self._sources.receive(0.1):
            if isinstance(item, (StopRequested, LeaveRequested)):
                self._stop_saving()
            elif isinstance(item, CallDone) and item.kind is CallKind.SAVE:
                self._sources.finish(item)

    def _check_time(self, at: Instant) -> None:
        """Whether there is still time for it, and whether it is time for a heartbeat."""
        silent = max(0.0, at.elapsed - self._transfers.last_data_at)
        if not self._stopped:
            self._limit = self._exceeded_limit()
            if silent > self._timing.lost_after:
                self._unanswered = silent
            if self._limit is not None or self._unanswered is not None:
                self._stop_saving()
        if at.elapsed - self._last_event_at >= self._timing.silence:
            self._emit(self._run.heartbeat(at, silent, download=self._queue.progress))

    def _stop_saving(self) -> None:
        """Save no more; what is half saved goes."""
        if self._stopped:
            return
        self._transfers.stop()
        self._given_up = [str(entry.output.filename) for entry in self._queue.stop()]

    def _note_missed_pictures(self) -> None:
        """Pictures that were sent over the socket alone are gone where nobody was there to take them."""
        made = {output.node.id for output in self._run.outputs}
        for ref in self._run.manifest if self._succeeded else ():
            if ref.class_type in SOCKET_SAVERS and ref.id in self._run.nodes.executed and ref.id not in made:
                self._fail(ref.title, "what it made was sent over a connection that comfyreport didn't have", ref)

    def _write_sidecars(self) -> None:
        at, outputs = self._clock(), self._saved_outputs
        fields = run_fields(self._run, at.elapsed)
        done: list[CallDone] = []
        work = partial(write_sidecars, self._target, fields, outputs, wait=self._transfers.check)
        self._sources.call(CallKind.SAVE, work, done.append)
        while not done:
            self._turn()
        for name, reason in done[0].value or [] if done[0].error is None else [("", str(done[0].error))]:
            self._fail(name, reason)

    # --- one output

    def _go_on(self) -> None:
        """Begin with what may be begun with."""
        while self._fetches and not self._stopped and (entry := self._queue.next_to_fetch()) is not None:
            if entry.spot is None:
                waiting = None if self._target.folder else self._target.waiting_room
                entry.spot = waiting or self._target.spot(entry.output, self._fields)
            work = partial(self._transfers.fetch, entry, entry.spot)
            self._sources.call(CallKind.SAVE, work, partial(self._on_fetched, entry))
        if not self._stopped and (entry := self._queue.next_to_name()) is not None:
            self._sources.call(CallKind.SAVE, partial(self._transfers.put, entry), partial(self._on_named, entry))

    @property
    def _fields(self) -> dict[str, object]:
        return {"prompt_id": self._run.prompt_id, "run": self._run.run_index, "seed": self._run.seed}

    def _on_fetched(self, entry: Entry, done: CallDone) -> None:
        self._heard(done.error)
        if entry.dropped:
            return
        if done.error is None:
            self._queue.fetched(entry, done.value)
        else:
            self._on_error(entry, done.error)
        self._go_on()

    def _on_named(self, entry: Entry, done: CallDone) -> None:
        if done.error is None:
            self._queue.done(entry)
            self._on_saved(entry, done.value)
        else:
            self._on_error(entry, done.error)
        self._go_on()

    def _heard(self, error: BaseException | None) -> None:
        if error is None or not getattr(error, "retryable", False):
            self._transfers.last_data_at = self._clock().elapsed

    def _on_error(self, entry: Entry, error: BaseException) -> None:
        early = entry.picture is None and not self._settled
        self._queue.done(entry, postponed=early)
        if not early and (not self._stopped or self._unanswered is not None):
            output, shown = entry.output, entry.spot.shown if entry.spot is not None else self._target
            reason = self._silence_reason or str(getattr(error, "strerror", None) or error)
            self._fail(str(output.filename), reason, output.node, f"could not be saved to {shown}: ")

    def _fail(self, name: str, reason: str, node: ev.NodeRef | None = None, words: str = "") -> None:
        self._failed.append(name)
        self._cause = self._cause or reason
        self._warn(f"{name} {words}{reason}" if words else f"{name}: {reason}", node)

    def _on_saved(self, entry: Entry, saved: ev.Output) -> None:
        if not self._settled and self._run.verdict is not None:
            # History told of all outputs a moment ago.
            self._settle()
        if entry.place is not None:
            saved = with_path(self._run.outputs[entry.place], saved)
        if self._recorder is not None:
            file = [saved.node.id, saved.filename, saved.subfolder, saved.folder]
            self._recorder.note("saved", index=entry.place, file=file, path=saved.path, bytes=saved.bytes)
        self._saved_outputs.append(saved)
        self._emit(self._run.saved(entry.place, saved, self._clock()))

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

    @property
    def _stopped(self) -> bool:
        return self._transfers.stopped

    # --- the verdict

    @property
    def _succeeded(self) -> bool:
        return self._run.verdict is not None and self._run.verdict.status == "success"

    def _amend_verdict(self) -> None:
        """Change the verdict by what saving showed."""
        decided = self._run.verdict
        if decided is None or decided.status not in ("success", "partial"):
            return
        if self._limit is not None:
            self._run.verdict = verdict.timed_out_while_saving(self._limit)
        elif self._stopped and self._unanswered is None:
            self._run.verdict = verdict.cancelled_while_saving(decided)
        elif self._failed:
            self._run.verdict = verdict.unsaved(decided, self._failed, self._cause)
