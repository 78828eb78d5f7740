"""The worker's side: makes one run on the server beside it, tells of it as it goes, and gives back what came of it."""

from __future__ import annotations

import base64
import logging
import os
import platform
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from comfyreport import events as ev
from comfyreport._version import __version__
from comfyreport.access.address import parse_address
from comfyreport.access.credentials import Access
from comfyreport.engine.loop import Loop
from comfyreport.errors import UnreachableError, UsageError, one_line
from comfyreport.events import Instant
from comfyreport.files import Claims
from comfyreport.fleet.assignment import Assignment, Note, Outcome
from comfyreport.fleet.channel import Channel, Stop
from comfyreport.fleet.ends import cut, unsaved
from comfyreport.fleet.telling import Teller, Upkeep
from comfyreport.jobs.job import Job, run_job
from comfyreport.jobs.run_context import RunContext
from comfyreport.jobs.simulating import SIMULATED
from comfyreport.reporting.plugins import StandardStreams
from comfyreport.reporting.streams import stderr, stdout
from comfyreport.run.verdict import Cancel

OUTPUT = "COMFYREPORT_OUTPUT"
"""The worker's variable that names a folder which the command sees too: outputs are saved there."""
SEND_BACK = "COMFYREPORT_SEND_BACK"
"""The worker's variable for how many bytes of outputs are sent back in one run, where there is no such folder."""

_SEND_BACK = 64 * 1024 * 1024
_FAILED = Cancel("cancelled", "cancelled", "cancelled because another run failed", "--keep-going goes on behind it")


def perform(assignment: Assignment, channel: Channel, name: str) -> Outcome:
    """Make the run; its end is there on every path. A prompt of an earlier attempt is looked for first.

    :param name: the worker's, as events tell it.
    """
    return _Attempt(assignment, channel, name).make()


class WorkerContext(RunContext):
    """One run on a worker, where no reporter is: events go to *teller*, the end stays here.

    :param server: is told with the events that have a place for it.
    :param sends_back: files have no lasting place here: that they are saved is told where they will be.
    :param on_queued: is given the prompt's id as the server has it.
    """

    def __init__(
        self,
        assignment: Assignment,
        teller: Teller,
        *,
        server: str,
        sends_back: bool,
        on_queued: Callable[[str], None],
    ) -> None:
        self.sequence = count(1)
        self.timing = assignment.timing
        self.results = []
        self.streams = StandardStreams(stdout, stderr)
        self.claims = Claims()
        self.run_index = assignment.index
        self._server = server
        self._teller = teller
        self._sends_back = sends_back
        self._on_queued = on_queued
        self._began = time.monotonic()

    def clock(self) -> Instant:
        """The time now, on the clock of this attempt."""
        return Instant(round(time.time(), 6), round(time.monotonic() - self._began, 6))

    def wants(self, event_type: str) -> bool:
        """No previews are made: they would not be told."""
        return False

    def watch(self) -> list[str]:
        """Nothing: there are no reporters here."""
        return []

    def publish(self, events: Sequence[ev.Event]) -> None:
        """Tell *events*, but for the run's end."""
        told: list[ev.Event] = []
        for event in events:
            if isinstance(event, ev.RunFinished):
                self.results.append(replace(event, server=self._server))
            elif isinstance(event, ev.RunQueued):
                told.append(replace(event, server=self._server))
                self._on_queued(event.prompt_id or "")
            elif not (self._sends_back and isinstance(event, ev.OutputSaved)):
                told.append(event)
        self._teller.add(told)

    def complain(self, line: str) -> None:
        """Write one line to the worker's log."""
        logging.getLogger("comfyreport").error("run %s: %s", self.run_index, line)

    def fail_beside_run(self, what: str) -> None:
        """Write it to the worker's log."""
        self.complain(what)


class _Attempt:
    def __init__(self, assignment: Assignment, channel: Channel, name: str) -> None:
        self._assignment = assignment
        self._channel = channel
        self._name = name
        self._id = uuid.uuid4().hex
        self._teller = Teller(channel, assignment, self._id, name)
        self._shared = os.environ.get(OUTPUT, "")
        self._loop: Loop | None = None
        self._stop: Stop = ""
        self._heeded: Stop = ""
        self._look_at = 0.0
        self._note: Note | None = None
        self._renamed: Note | None = None

    def make(self) -> Outcome:
        files: list[tuple[int, bytes]] = []
        with tempfile.TemporaryDirectory(prefix="comfyreport-", ignore_cleanup_errors=True) as folder:
            job = self._unpacked(folder)
            with Upkeep(self._keep_up) as upkeep:
                context = self._context(job)
                try:
                    self._check_version()
                    result = self._look(job) or self._submit(job, context)
                except Exception as error:  # noqa: BLE001  whatever it is, the run has an end
                    # A job raises none: it is what leads to the command.
                    context.fail(_unheard(error) if isinstance(error, OSError) else error)
                    result = context.results[-1]
                if result.status == "unreachable" and result.retryable:
                    # Else a worker whose server is down would take the runs of all the others.
                    upkeep.wait(self._assignment.timing.reconnect_max, lambda: bool(self._stop))
            if not self._shared and job.output is not None:
                result, files = self._collect(result)
            self._teller.flush()
        return Outcome(self._id, self._name, self._teller.told, result, tuple(files), self._teller.take_untold())

    def _unpacked(self, folder: str) -> Job:
        """The job as it can be done here, its files in *folder*."""
        job = self._assignment.job
        for file in self._assignment.files:
            path = Path(folder, "files", file.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.data)
        output = job.output
        if output is not None:
            output = os.path.join(self._shared, output) if self._shared else os.path.join(folder, "outputs", "")
        access = job.access
        if access is not None and not access.token:
            access = replace(access, token=Access.of(os.environ).token)
        return replace(job, folder=os.path.join(folder, "files"), output=output, access=access)

    def _context(self, job: Job) -> WorkerContext:
        sends_back = job.output is not None and not self._shared
        return WorkerContext(
            self._assignment,
            self._teller,
            server=job.shown_server,
            sends_back=sends_back,
            on_queued=self._rename,
        )

    def _check_version(self) -> None:
        theirs = self._assignment.comfyreport
        if theirs != __version__:
            raise UnreachableError(
                f"worker {self._name} has comfyreport {__version__}, the command has {theirs}",
                hint="install one version everywhere",
                code="engine",
            )

    # --- while it goes on

    def _rename(self, prompt_id: str) -> None:
        """Servers before `prompt_id` was added give a prompt an id of their own: it is noted by and by."""
        note = self._note
        if note is not None and prompt_id not in ("", note.prompt_id):
            self._renamed = replace(note, prompt_id=prompt_id)

    def _keep_up(self) -> None:
        renamed, self._renamed = self._renamed, None
        if renamed is not None:
            self._channel.keep(renamed)
        self._teller.flush(renamed)
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + self._channel.pause
            self._stop = self._channel.stop()
        self._heed()

    def _heed(self) -> None:
        """Pass on what is to be cancelled, once there is a loop; each wish once."""
        loop, wish = self._loop, self._stop
        if loop is None or wish == self._heeded:
            return
        self._heeded = wish
        if wish == "all":
            loop.stop()
        else:
            loop.cancel(_FAILED, waiting=True)

    def _take_loop(self, loop: Loop) -> None:
        self._loop, self._heeded = loop, ""
        self._heed()

    # --- the two ways to a prompt

    def _look(self, job: Job) -> ev.RunFinished | None:
        """Follow the prompt of an earlier attempt, if there is one and its server has it."""
        note = self._channel.note() or self._assignment.note
        if note is None:
            return None
        context = self._context(replace(job, server=note.server))
        reach = self._reach(note)
        whose = f"worker {note.worker} died" if note.worker else "the run was begun before"
        detail = f"{whose}; its prompt {'is looked for on' if reach else 'can not be looked for from here, on'} "
        now = context.clock()
        lost = ev.ConnectionChanged(
            seq=0, time=now.time, elapsed=now.elapsed, run_index=self._assignment.index, prompt_id=note.prompt_id,
            state="lost", detail=detail + (note.server or "no server"),
        )  # fmt: skip
        self._teller.add([lost])
        self._teller.flush(note)
        if not reach:
            return None
        attached = replace(
            job,
            # What is known of one's own server is more: credentials.
            server=job.server if note.server == job.shown_server else note.server,
            begun=True,
            prompt_id=note.prompt_id,
            client_id=note.client_id,
            options=replace(job.options, wait_for_server=self._patience(note)),
        )
        result = run_job(context, attached, on_loop=self._take_loop)
        self._loop = None
        return None if result.status in ("lost", "unreachable") else result

    def _reach(self, note: Note) -> bool:
        """Whether that server can be asked from here; on loopback only the one who noted it knows which one it is."""
        if note.server in ("", SIMULATED):
            return False
        try:
            address = parse_address(note.server)
        except UsageError:
            return False
        return not (address.loopback and note.host not in ("", platform.node()))

    def _patience(self, note: Note) -> float:
        timing = self._assignment.timing
        return timing.lost_after_refused if parse_address(note.server).loopback else timing.lost_after

    def _submit(self, job: Job, context: WorkerContext) -> ev.RunFinished:
        if self._stop or self._channel.stop():
            return cut(context)
        note = Note(job.shown_server, str(uuid.uuid4()), uuid.uuid4().hex, self._name, platform.node())
        # Before anything is submitted: whoever comes after a crash must find it.
        self._channel.keep(note)
        self._teller.flush(note, waits=True)
        if not self._may_submit(note):
            self._channel.keep(None)
            if self._stop:
                return cut(context)
            raise TimeoutError("it doesn't answer")
        self._note = note
        result = run_job(
            context, replace(job, prompt_id=note.prompt_id, client_id=note.client_id), on_loop=self._take_loop
        )
        if result.submitted == "no":
            self._channel.keep(None)
        return result

    def _may_submit(self, note: Note) -> bool:
        """Whether the command has kept the note: one that is killed then finds the prompt when it is called again."""
        until = time.monotonic() + self._assignment.timing.lost_after
        while time.monotonic() < until and not self._stop:
            if self._channel.may_submit(note.prompt_id, self._channel.pause):
                return True
        return False

    # --- outputs

    def _collect(self, result: ev.RunFinished) -> tuple[ev.RunFinished, list[tuple[int, bytes]]]:
        """The files that were saved here, as far as they may be sent back; of the others the run's end tells."""
        room = limit = _limit()
        files: list[tuple[int, bytes]] = []
        outputs: list[ev.Output] = []
        left: list[str] = []
        for position, output in enumerate(result.outputs):
            path = output.path if output.path_bytes is None else os.fsdecode(base64.b64decode(output.path_bytes))
            outputs.append(replace(output, path=None, path_bytes=None))
            if path is None:
                continue
            size = os.path.getsize(path)
            if size <= room:
                room -= size
                files.append((position, Path(path).read_bytes()))
            else:
                left.append(str(output.filename))
                self._warn_of_size(result, output, size)
        result = replace(result, outputs=tuple(outputs))
        if left:
            cause = f"a worker sends {limit} bytes back at most"
            hint = f"give the workers a shared folder ({OUTPUT}), or raise {SEND_BACK}"
            result = unsaved(result, left, cause, hint)
        return result, files

    def _warn_of_size(self, result: ev.RunFinished, output: ev.Output, size: int) -> None:
        message = f"{output.filename} has {size} bytes, too many to be sent back in this run ({SEND_BACK})"
        warning = ev.Warning(
            seq=0, time=result.time, elapsed=result.elapsed, run_index=result.run_index, prompt_id=result.prompt_id,
            code="output_too_large", message=message, node=output.node,
        )  # fmt: skip
        self._teller.add([warning])


def _unheard(error: OSError) -> UnreachableError:
    hint = "look whether the engine still runs, and whether this worker reaches it"
    return UnreachableError(
        f"a worker can't reach its command: {one_line(error)}", hint=hint, code="engine", retryable=True
    )


def _limit() -> int:
    try:
        return max(0, int(os.environ.get(SEND_BACK) or _SEND_BACK))
    except ValueError:
        return _SEND_BACK
