"""Loads plugins and reporters of a command, each once; a step that is blocked when a signal comes is left behind."""

from __future__ import annotations

import contextlib
import os
import re
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TextIO

from comfyreport.cli.signals import Signals
from comfyreport.errors import ReporterError, machine_limit
from comfyreport.files import Claims
from comfyreport.process import standard_streams
from comfyreport.reporting.plugins import Plugins, StandardStreams, selected
from comfyreport.reporting.streams import Stream, Terminals
from comfyreport.shell import split
from comfyreport.terminal import put_back_modes

GoOn = Callable[[], int]
"""Does the rest of the command, which is cancelled, on another thread; the exit code."""


@contextlib.contextmanager
def opened(arguments: Namespace, signals: Signals | None, claims: Claims | None) -> Iterator[Loading]:
    """The standard streams of a command taken, so that what it loads can't spoil them; nothing is loaded yet.

    :param signals: None: they are taken for the length of the context.
    """
    terminals = Terminals()
    with contextlib.ExitStack() as stack, standard_streams() as (out, err):
        stack.callback(put_back_modes)
        signals = signals or stack.enter_context(Signals())
        signals.restore_terminals = terminals.restore
        yield Loading(arguments, signals, out, err, terminals, claims)


class Loading:
    """The plugins and reporters of one command on their way from names to what is registered.

    `error` is what the first said that can't be loaded or used.
    """

    def __init__(
        self,
        arguments: Namespace,
        signals: Signals,
        out: TextIO,
        err: TextIO,
        terminals: Terminals,
        claims: Claims | None,
    ) -> None:
        self.signals = signals
        self.terminals = terminals
        self.write = _stderr_writer(err, terminals)
        self.error: BaseException | None = None
        blocked = {name[3:] for name in arguments.plugins if name.startswith("no:")}
        self.plugins = Plugins(_open_streams(out, err, arguments, terminals), blocked, claims)
        # Plugins come first: a reporter may need one.
        self._to_plan: deque[Callable[[], Callable[[], None]]] = deque(
            partial(self.plugins.plan_plugin, name) for name in plugin_names(arguments)
        )
        self._to_build: deque[Callable[[], None]] = deque()

    def add_reporters(self, arguments: Namespace) -> None:
        """Let the reporters that are chosen be loaded next."""
        try:
            specs = _reporter_specs(arguments)
        except ReporterError as error:
            self.error = self.error or error
            specs = ["console"]
        self._to_plan += [partial(self.plugins.plan_spec, spec) for spec in specs]

    def load(self, go_on: GoOn) -> None:
        """Load what isn't loaded yet."""
        while self._to_plan:
            plan = self._to_plan.popleft()
            self.attempt(lambda plan=plan: self._to_build.append(plan()), go_on)  # type: ignore[misc]
        # None is built before all are known: building opens files, and two may want the same.
        while self._to_build:
            self.attempt(self._to_build.popleft(), go_on)

    def attempt(self, step: Callable[[], object], go_on: GoOn) -> None:
        """Do what runs a plugin's code; what can't be used is kept as the error."""
        try:
            with self.signals.may_block(go_on):
                try:
                    step()
                finally:
                    self.signals.keep()
        except (ReporterError, KeyboardInterrupt) as raised:
            self.error = self.error or raised
        except Exception as raised:
            limit = machine_limit(raised)
            if limit is None:
                raise
            self.error = self.error or limit


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


def plugin_names(arguments: Namespace) -> list[str]:
    """The plugins that the environment and the command line name."""
    names = [name for name in arguments.plugins if not name.startswith("no:")]
    return [name for name in [*re.split(r"[\s,]+", os.environ.get("COMFYREPORT_PLUGINS", "")), *names] if name]


def _reporter_specs(arguments: Namespace) -> Iterable[str]:
    specs = list(arguments.reporter)
    specs += ["quiet"] * arguments.quiet + ["jsonl"] * arguments.json_progress
    return selected(specs, selected(_usual_reporters(), ["console"]))


def _usual_reporters() -> list[str]:
    """The reporters that `COMFYREPORT_REPORTER` names."""
    try:
        return split(os.environ.get("COMFYREPORT_REPORTER", ""))
    except ValueError as error:
        raise ReporterError(
            f"COMFYREPORT_REPORTER can't be read: {error}", hint="separate reporters by spaces, quoted as for a shell"
        ) from None
