"""Runs the session of a command: opens its streams and reporters, does its work, and ends the stream on every path."""

from __future__ import annotations

import contextlib
import os
import re
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TextIO

from comfyreport.cli.process import FINAL_WRITE_SECONDS, redirect_stray_output, standard_streams
from comfyreport.cli.results import print_results
from comfyreport.cli.signals import Signals
from comfyreport.errors import ReporterError, machine_limit
from comfyreport.files import Claims
from comfyreport.jobs.session import Session
from comfyreport.reporting.plugins import Plugins, StandardStreams, selected
from comfyreport.reporting.streams import Stream, Terminals
from comfyreport.shell import split
from comfyreport.terminal import put_back_modes
from comfyreport.text import printable, says_no
from comfyreport.timing import Timing
from comfyreport.worker import call_within

Work = Callable[[Session, AbstractContextManager[None]], object]
"""What a command does with its session; the context is for what may block before there is anything to cancel."""


def run_session(
    arguments: Namespace,
    command: str,
    server: str,
    signals: Signals | None = None,
    *,
    work: Work | None = None,
    error: BaseException | None = None,
    claims: Claims | None = None,
) -> int:
    """Open the reporters, do *work* or report *error*, close the reporters; the exit code.

    :param claims: the files that the command uses beside those of reporters.
    :param signals: None: they are taken for the length of this call.
    """
    terminals = Terminals()
    with contextlib.ExitStack() as stack, standard_streams() as (out, err):
        stack.callback(put_back_modes)
        signals = signals or stack.enter_context(Signals())
        signals.restore_terminals = terminals.restore
        return _Runner(arguments, command, server, signals, out, err, terminals, claims).run(work, error)


class _Runner:
    """Runs one session. Where a step of it is blocked when a signal comes, the rest is done on another thread."""

    def __init__(
        self,
        arguments: Namespace,
        command: str,
        server: str,
        signals: Signals,
        out: TextIO,
        err: TextIO,
        terminals: Terminals,
        claims: Claims | None,
    ) -> None:
        self._arguments = arguments
        self._command = command
        self._server = server
        self._signals = signals
        self._terminals = terminals
        self._streams = _open_streams(out, err, arguments, terminals)
        self._write = _stderr_writer(err, terminals)
        blocked = {name[3:] for name in arguments.plugins if name.startswith("no:")}
        self._plugins = Plugins(self._streams, blocked, claims)
        self._choice_error: ReporterError | None = None
        try:
            self._to_plan = deque(_selected(arguments, self._plugins))
        except ReporterError as error:
            self._choice_error = error
            self._to_plan = deque([(self._plugins.plan_spec, "console")])
        self._to_build: deque[Callable[[], None]] = deque()

    def run(self, work: Work | None, error: BaseException | None) -> int:
        """All steps, from the reporters that aren't loaded yet."""
        load_error = self._load()
        with contextlib.ExitStack() as stack:
            if self._terminals.drawing_streams:
                try:
                    stack.enter_context(redirect_stray_output(self._write))
                except (OSError, RuntimeError) as raised:
                    load_error = load_error or raised
            session = Session(
                self._plugins,
                command=self._command,
                server=self._server,
                timing=_timing(self._arguments),
                complain=self._complain,
                trace=_trace(self._complain),
                on_watch=self._signals.keep,
            )
            error = error or load_error
            if error is not None:
                session.fail(error)
            elif work is not None:
                work(session, self._signals.may_block(lambda: self._cancel(session)))
            return self._finish(session)

    def _load(self) -> BaseException | None:
        """Load the reporters and plugins; the error of the first that can't be loaded."""
        errors: list[BaseException] = [] if self._choice_error is None else [self._choice_error]
        while self._to_plan:
            plan, name = self._to_plan.popleft()
            self._try(errors, lambda plan=plan, name=name: self._to_build.append(plan(name)))  # type: ignore[misc]
        # None is built before all are known: building opens files, and two may want the same.
        while self._to_build:
            self._try(errors, self._to_build.popleft())
        return errors[0] if errors else None

    def _try(self, errors: list[BaseException], step: Callable[[], object]) -> None:
        try:
            with self._signals.may_block(lambda: self.run(None, KeyboardInterrupt())):
                try:
                    step()
                finally:
                    self._signals.keep()
        except (ReporterError, KeyboardInterrupt) as raised:
            errors.append(raised)
        except Exception as raised:
            limit = machine_limit(raised)
            if limit is None:
                raise
            errors.append(limit)

    def _cancel(self, session: Session) -> int:
        session.fail(KeyboardInterrupt())
        return self._finish(session)

    def _finish(self, session: Session) -> int:
        signals = self._signals
        # A signal that came before anything could be stopped doesn't cut the closing short either.
        signals.use(lambda: None)
        session.hurry = session.hurry or signals.count > 1
        signals.use(session.leave)
        code = session.finish(lambda: print_results(session, self._plugins, self._streams))
        _release(self._terminals)
        return code

    def _complain(self, line: str) -> None:
        self._write(f"comfyreport: {line}\n")


def _open_streams(out: TextIO, err: TextIO, arguments: Namespace, terminals: Terminals) -> StandardStreams:
    streams = StandardStreams(
        Stream(out, name="stdout", color=arguments.color, terminals=terminals),
        Stream(err, name="stderr", color=arguments.color, terminals=terminals),
    )
    for stream in streams:
        stream.remember_writes()
    return streams


def _stderr_writer(err: TextIO, terminals: Terminals) -> Callable[[str], None]:
    """Writes to stderr what isn't a reporter's: messages of comfyreport, and stray output."""
    stream = Stream(err, name="stderr", terminals=terminals)

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    return write


def _timing(arguments: Namespace) -> Timing:
    """The waits, with those that the flags set."""
    flags = {
        "stall_warn": getattr(arguments, "stall_warn", None),
        "lost_after": getattr(arguments, "lost_after", None),
        "lost_after_refused": getattr(arguments, "lost_after", None),
    }
    return replace(Timing.of(os.environ), **{name: value for name, value in flags.items() if value is not None})


def _selected(arguments: Namespace, plugins: Plugins) -> Iterator[tuple[Callable[[str], Callable[[], None]], str]]:
    """What to load: each name with the method that loads it. Plugins come first: a reporter may need one."""
    names = [name for name in arguments.plugins if not name.startswith("no:")]
    for name in [*re.split(r"[\s,]+", os.environ.get("COMFYREPORT_PLUGINS", "")), *names]:
        if name:
            yield plugins.plan_plugin, name
    specs = list(arguments.reporter)
    specs += ["quiet"] * arguments.quiet + ["jsonl"] * arguments.json_progress
    for spec in selected(specs, selected(_usual_reporters(), ["console"])):
        yield plugins.plan_spec, spec


def _usual_reporters() -> list[str]:
    """The reporters that `COMFYREPORT_REPORTER` names."""
    try:
        return split(os.environ.get("COMFYREPORT_REPORTER", ""))
    except ValueError as error:
        raise ReporterError(
            f"COMFYREPORT_REPORTER can't be read: {error}", hint="separate reporters by spaces, quoted as for a shell"
        ) from None


def _trace(complain: Callable[[str], None]) -> Callable[[str, str, float], None] | None:
    """With `COMFYREPORT_DEBUG`: a function that writes how long each call of a hook took."""
    if says_no(os.environ.get("COMFYREPORT_DEBUG", "")):
        return None
    return lambda name, hook, seconds: complain(printable(f"debug: {name}.{hook} took {seconds * 1000:.3f} ms"))


def _release(terminals: Terminals) -> None:
    """Release terminals on which a reporter still draws: it is stuck, or the user didn't wait for it."""
    for stream in terminals.drawing_streams:
        with contextlib.suppress(OSError, ValueError):
            call_within(FINAL_WRITE_SECONDS, stream.release)
