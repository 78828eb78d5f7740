"""ProgressTracker: follows one prompt in a background thread, for programs that iterate over events."""

from __future__ import annotations

import atexit
import os
import queue
import threading
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from comfyreport import events as ev
from comfyreport.access.credentials import Access
from comfyreport.engine.loop import Loop
from comfyreport.engine.options import RunOptions
from comfyreport.jobs.job import Job, run_job
from comfyreport.jobs.session import ReporterLoading, Session, complain_to_stderr
from comfyreport.reporting.hookspecs import hookimpl
from comfyreport.timing import Timing
from comfyreport.worker import take, turns


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
    :param output: where its outputs are saved, as `run_generation` has it, like *overwrite*, *include_temp*, *sidecar*
        and *learn*.
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
        output: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        include_temp: bool = False,
        sidecar: bool = False,
        learn: bool = True,
        access: Access | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.server = server
        self.access = access
        self.learn = learn
        self.client_id = client_id or uuid.uuid4().hex
        self.quiet = quiet
        self.json_progress = json_progress
        self.result: ev.RunFinished | None = None
        self._output: Mapping[str, Any] = {"output": output, "overwrite": overwrite, "sidecar": sidecar}
        self._options = RunOptions(include_temp=include_temp)
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
            # A program that ends first, by a KeyboardInterrupt for one, leaves no stream without an end.
            atexit.register(self.stop)
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
            try:
                self._join(self._timing.close_limit)
            except KeyboardInterrupt:
                # The first one doesn't cut the end short.
                self._join(self._timing.close_limit)
                raise

    def wait(self, timeout: float | None = None) -> ev.RunFinished | None:
        """The run's end, or None if it hasn't come within *timeout* seconds."""
        self.start()
        self._join(timeout)
        return self.result

    def _join(self, timeout: float | None) -> None:
        thread = self._thread
        assert thread is not None
        for seconds in turns(timeout):
            thread.join(seconds)
            if not thread.is_alive():
                return

    def __enter__(self) -> ProgressTracker:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __iter__(self) -> Iterator[ev.AnyEvent]:
        """The events as they come, the last is `stream_finished`."""
        self.start()
        for seconds in turns():
            try:
                event = take(self._collector.events, seconds)
            except queue.Empty:
                continue
            if event is None:
                break
            yield event
        # For whoever iterates again.
        self._collector.events.put(None)

    def _follow(self) -> None:
        try:
            self._follow_to_the_end()
        finally:
            self._collector.events.put(None)
            atexit.unregister(self.stop)

    def _follow_to_the_end(self) -> None:
        loading = ReporterLoading(None, quiet=self.quiet, json_progress=self.json_progress)
        loading.go_on()
        plugins = loading.plugins
        plugins.add_object(self._collector, "tracker")
        job = Job(
            server=self.server,
            prompt_id=self._prompt_id or "",
            client_id=self.client_id,
            access=self.access,
            learn=self.learn,
            options=self._options,
            **self._output,
        )
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
