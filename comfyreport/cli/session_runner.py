"""Runs the session of a command: opens its streams and reporters, does its work, and ends the stream on every path."""

from __future__ import annotations

import contextlib
import os
from argparse import Namespace
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import NamedTuple

from comfyreport.cli.loading import Loading, opened
from comfyreport.cli.signals import Signals
from comfyreport.files import Claims
from comfyreport.jobs.session import Session
from comfyreport.listings.results import print_results
from comfyreport.process import FINAL_WRITE_SECONDS, redirect_stray_output
from comfyreport.reporting.streams import Terminals
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
    loading: Loading | None = None,
    many: Many | None = None,
) -> int:
    """Open the reporters, do *work* or report *error*, close the reporters; the exit code.

    :param claims: the files that the command uses beside those of reporters.
    :param signals: None: they are taken for the length of this call.
    :param loading: what has loaded the plugins already, with signals and claims of its own.
    :param many: where it makes many runs: how many, and what is said of them at the end.
    """
    with opened(arguments, signals, claims) if loading is None else contextlib.nullcontext(loading) as loading:
        return _Runner(arguments, command, server, loading, many).run(work, error)


class Many(NamedTuple):
    """A command of many runs: how many are to be made, of how many in all, and what is said of them at the end."""

    total: int
    planned: int | None
    summary: Callable[[Callable[[str], bool]], list[str]]


class _Runner:
    """Runs one session. Where a step of it is blocked when a signal comes, the rest is done on another thread."""

    def __init__(self, arguments: Namespace, command: str, server: str, loading: Loading, many: Many | None) -> None:
        self._many = many
        self._arguments = arguments
        self._command = command
        self._server = server
        self._loading = loading
        self._signals = loading.signals
        self._terminals = loading.terminals
        self._plugins = loading.plugins
        self._write = loading.write
        loading.add_reporters(arguments)

    def run(self, work: Work | None, error: BaseException | None) -> int:
        """All steps, from the reporters that aren't loaded yet."""
        self._loading.load(lambda: self.run(None, KeyboardInterrupt()))
        load_error = self._loading.error
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
                timing=timing_of(self._arguments),
                complain=self._complain,
                trace=_trace(self._complain),
                on_watch=self._signals.keep,
                runs_total=1 if self._many is None else self._many.total,
                runs_planned=None if self._many is None else self._many.planned,
            )
            error = error or load_error
            if error is not None:
                session.fail(error)
            elif work is not None:
                work(session, self._signals.may_block(lambda: self._cancel(session)))
            return self._finish(session)

    def _cancel(self, session: Session) -> int:
        session.fail(KeyboardInterrupt())
        return self._finish(session)

    def _finish(self, session: Session) -> int:
        signals = self._signals
        # A signal that came before anything could be stopped doesn't cut the closing short either.
        signals.use(lambda: None)
        session.hurry = session.hurry or signals.count > 1
        signals.use(session.leave)
        include_temp = getattr(self._arguments, "include_temp", False)
        summary = None if self._many is None else self._many.summary
        code = session.finish(
            lambda: print_results(
                session, self._plugins, self._plugins.streams, include_temp=include_temp, summary=summary
            )
        )
        _release(self._terminals)
        return code

    def _complain(self, line: str) -> None:
        self._write(f"comfyreport: {line}\n")


def timing_of(arguments: Namespace) -> Timing:
    """The waits, with those that the flags set."""
    flags = {
        "stall_warn": getattr(arguments, "stall_warn", None),
        "lost_after": getattr(arguments, "lost_after", None),
        "lost_after_refused": getattr(arguments, "lost_after", None),
    }
    return replace(Timing.of(os.environ), **{name: value for name, value in flags.items() if value is not None})


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
