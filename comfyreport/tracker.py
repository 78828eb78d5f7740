"""ProgressTracker: follows one prompt in a background thread; and the running of one job, which the command uses."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from comfyreport import events as ev
from comfyreport.access import Access
from comfyreport.address import DEFAULT_SERVER, Address, parse_address
from comfyreport.client import Client
from comfyreport.errors import UsageError
from comfyreport.hookspecs import hookimpl
from comfyreport.loop import Loop
from comfyreport.outputs import Target
from comfyreport.plugins import Plugins, Streams
from comfyreport.recording import Recorder
from comfyreport.run import Run
from comfyreport.session import Session
from comfyreport.streams import stderr, stdout
from comfyreport.timing import Timing
from comfyreport.wishes import Wishes
from comfyreport.workflow import Workflow, from_mapping, load

SIMULATED = "sim"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run that is asked for: a workflow to submit, or the id of a prompt that was submitted already.

    `access`: None for what the environment tells.
    """

    server: str = ""
    workflow: str | os.PathLike[str] | Mapping[str, Any] | None = None
    prompt_id: str = ""
    client_id: str = ""
    prompt: str | None = None
    output: str | os.PathLike[str] | None = None
    record: str | os.PathLike[str] | None = None
    access: Access | None = None
    wishes: Wishes = field(default_factory=Wishes)

    @property
    def server_text(self) -> str:
        """The server that was asked for, else that of the environment, else the default."""
        return self.server or os.environ.get("COMFYREPORT_SERVER") or DEFAULT_SERVER

    @property
    def shown_server(self) -> str:
        """The server for people and events: nothing secret in it, empty where the address is none."""
        if self.server_text == SIMULATED:
            return SIMULATED
        try:
            return parse_address(self.server_text).base
        except UsageError:
            return ""


def run_job(session: Session, job: Job, *, on_loop: Callable[[Loop], None] = lambda loop: None) -> ev.RunFinished:
    """Do *job* to its end, which is told on every path; raises nothing but KeyboardInterrupt.

    :param on_loop: is given the loop before it begins, so that it can be stopped.
    """
    with ExitStack() as stack:
        run: Run | None = None
        interrupted: KeyboardInterrupt | None = None
        try:
            access = job.access or Access.of(os.environ)
            workflow = _workflow(job)
            target = None if job.output is None else Target(job.output)
            if target is not None:
                target.prepare()
            address = _address(job, stack)
            run = _run(session, job, workflow, address)
            recorder = _recorder(session, job, address.base, access.secrets(address), stack)
            tap = None if recorder is None else recorder.tap
            client = Client(address, timing=session.timing, access=access, tap=tap)
            stack.callback(client.close)
            client_id = run.client_id or uuid.uuid4().hex
            loop = Loop(
                run,
                client,
                client_id=client_id,
                publish=session.publish,
                watch=session.watch,
                clock=session.clock,
                recorder=recorder,
                wishes=job.wishes,
            )
            if access.insecure:
                message = "the server's certificate is not checked (--insecure)"
                session.publish(run.tell(ev.Warning, session.clock(), code="insecure", message=message))
            on_loop(loop)
            body = _body(access, workflow, run, client_id)
            interrupted = _guarded(loop, lambda: loop.execute(body))
            if target is not None and not loop.hurry:
                interrupted = _guarded(loop, lambda: loop.save(target)) or interrupted
            session.hurry = loop.hurry
            _finish(session, run, recorder)
        except Exception as error:  # noqa: BLE001  whatever it is, the run has an end
            session.fail(error, run)
        except KeyboardInterrupt as error:
            # Outside the loop, which would have cancelled the prompt.
            interrupted = error
            if run is None or not run.finished:
                session.fail(error, run)
        if interrupted is not None:
            raise interrupted
        return session.results[-1]


def _workflow(job: Job) -> Workflow | None:
    if job.workflow is None:
        return None
    found = from_mapping(job.workflow) if isinstance(job.workflow, Mapping) else load(job.workflow)
    return found if job.prompt is None else found.with_prompt(job.prompt)


def _address(job: Job, stack: ExitStack) -> Address:
    if job.server_text != SIMULATED:
        return parse_address(job.server_text)
    try:
        from comfyreport.simulator import Simulator
    except ImportError as error:
        raise UsageError(
            f"the simulator needs a package that isn't installed ({error.name})",
            hint="pip install 'comfyreport[sim]'",
        ) from error
    speed = os.environ.get("COMFYREPORT_SIM_SPEED", "1")
    try:
        simulator = Simulator(speed=float(speed))
    except ValueError as error:
        raise UsageError(f"COMFYREPORT_SIM_SPEED is {speed!r}", hint="give it a number over 0") from error
    return parse_address(stack.enter_context(simulator).url)


def _run(session: Session, job: Job, workflow: Workflow | None, address: Address) -> Run:
    # The client of a prompt that is there already is told by the queue or by history.
    client_id = job.client_id or (None if workflow is None else uuid.uuid4().hex)
    return Run(
        job.prompt_id or str(uuid.uuid4()),
        () if workflow is None else workflow.manifest(),
        base_url=address.base,
        client_id=client_id,
        seed=None if workflow is None else workflow.seed(),
        sequence=session.sequence,
        previews=session.wants("node_preview"),
    )


def _recorder(session: Session, job: Job, server: str, secrets: Iterable[str], stack: ExitStack) -> Recorder | None:
    if job.record is None:
        return None
    lost = f"the recording {os.fspath(job.record)} is not whole: "
    recorder = Recorder(job.record, server=server, secrets=secrets, on_failure=lambda why: session.miss(lost + why))
    stack.callback(recorder.close)
    return recorder


def _body(access: Access, workflow: Workflow | None, run: Run, client_id: str) -> dict[str, Any] | None:
    if workflow is None:
        return None
    body: dict[str, Any] = {"prompt": workflow.graph, "client_id": client_id, "prompt_id": run.prompt_id}
    return body | ({"extra_data": dict(access.extra_data)} if access.extra_data else {})


def _guarded(loop: Loop, act: Callable[[], None]) -> KeyboardInterrupt | None:
    """Do *act*; a KeyboardInterrupt, where the program has no handler of ours, cancels and is raised at the end."""
    interrupted: KeyboardInterrupt | None = None
    while True:
        try:
            act()
        except KeyboardInterrupt as error:
            interrupted = error
            loop.stop()
            act = loop.resume
        else:
            return interrupted


def _finish(session: Session, run: Run, recorder: Recorder | None) -> None:
    if recorder is not None and recorder.failure is not None:
        message = f"the recording is not whole: {recorder.failure}"
        session.publish(run.tell(ev.Warning, session.clock(), code="record_failed", message=message))
    session.publish(run.finish(session.clock()))
    if recorder is None:
        return
    result = session.results[-1]
    error = result.error
    recorder.note(
        "end",
        status=result.status,
        prompt_state=result.prompt_state,
        submitted=result.submitted,
        retryable=result.retryable,
        error=None if error is None else {"code": error.code, "message": error.message, "hint": error.hint},
    )


class _Collector:
    """A reporter that keeps events for an iterating thread."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[ev.AnyEvent | None] = queue.SimpleQueue()

    @hookimpl
    def comfyreport_event(self, event: ev.AnyEvent) -> None:
        """Keep *event*."""
        self.events.put(event)


class ProgressTracker:
    """Follows one prompt in a background thread, and can be iterated for its events.

    Submit with `client_id` as the POST's `client_id`, and set `prompt_id` to the answer's id; messages that come
    before that are kept. Without *quiet*, progress is printed to stderr; with *json_progress*, JSON lines to stdout.

    :param server: as `--server` takes it.
    :param prompt_id: the prompt to follow; may be set later.
    :param client_id: the id under which it was submitted; without one, one is made up.
    :param access: credentials and certificates; None: the token in `COMFYREPORT_TOKEN`, if there is one.
    """

    def __init__(
        self,
        server: str = "",
        prompt_id: str | None = None,
        client_id: str | None = None,
        *,
        quiet: bool = False,
        json_progress: bool = False,
        access: Access | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.server = server
        self.access = access
        self.client_id = client_id or uuid.uuid4().hex
        self.quiet = quiet
        self.json_progress = json_progress
        self.result: ev.RunFinished | None = None
        self._prompt_id = prompt_id
        self._known = threading.Event()
        if prompt_id is not None:
            self._known.set()
        self._timing = timing or Timing()
        self._collector = _Collector()
        self._thread: threading.Thread | None = None
        self._loop: Loop | None = None
        self._stopped = False
        self.connected = threading.Event()

    @property
    def prompt_id(self) -> str | None:
        """The prompt that is followed."""
        return self._prompt_id

    @prompt_id.setter
    def prompt_id(self, value: str) -> None:
        self._prompt_id = value
        self._known.set()

    def start(self) -> ProgressTracker:
        """Begin to follow; returns at once. Calling it again changes nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="comfyreport-tracker", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """Stop following. The prompt goes on."""
        self._stopped = True
        self._known.set()
        if self._loop is not None:
            self._loop.leave()
        if self._thread is not None:
            self._thread.join(self._timing.close_limit)

    def wait(self, timeout: float | None = None) -> ev.RunFinished | None:
        """The run's end, or None if it hasn't come within *timeout* seconds."""
        self.start()
        assert self._thread is not None
        self._thread.join(timeout)
        return self.result

    def __enter__(self) -> ProgressTracker:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __iter__(self) -> Iterator[ev.AnyEvent]:
        """The events as they come, the last is `stream_finished`."""
        self.start()
        while (event := self._collector.events.get()) is not None:
            yield event
        # For whoever iterates again.
        self._collector.events.put(None)

    def _follow(self) -> None:
        try:
            self._follow_to_the_end()
        finally:
            self._collector.events.put(None)

    def _follow_to_the_end(self) -> None:
        plugins = default_plugins(quiet=self.quiet, json_progress=self.json_progress)
        plugins.add_object(self._collector, "tracker")
        job = Job(server=self.server, prompt_id=self._prompt_id or "", client_id=self.client_id, access=self.access)
        session = Session(
            plugins, command="attach", server=job.shown_server, timing=self._timing, complain=complain_to_stderr
        )
        run_job(session, job, on_loop=self._take_loop)
        self.result = session.results[-1]
        session.finish()

    def _take_loop(self, loop: Loop) -> None:
        self._loop = loop
        loop.on_ready = self._ready
        if self._stopped:
            loop.leave()

    def _ready(self) -> str:
        """Called on the tracker's thread once the socket is open; waits until the prompt's id is known."""
        self.connected.set()
        self._known.wait()
        return self._prompt_id or ""


def complain_to_stderr(line: str) -> None:
    """Write one line of comfyreport's own to stderr, if there is one."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        stderr.write(f"comfyreport: {line}\n")
        stderr.flush()


def default_plugins(*, quiet: bool, json_progress: bool) -> Plugins:
    """The reporters that `quiet` and `json_progress` stand for: errors only, JSON lines, else the console."""
    plugins = Plugins(Streams(stdout, stderr))
    plugins.add_spec("jsonl" if json_progress else "quiet" if quiet else "console")
    return plugins
