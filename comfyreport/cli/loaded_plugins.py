"""The plugins of a command, loaded before its command line is parsed: they add flags, and prepare the workflow."""

from __future__ import annotations

import contextlib
import os
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence

from comfyreport.cli.loading import Loading, opened, plugin_names
from comfyreport.cli.session_runner import run_session
from comfyreport.cli.signals import Signals
from comfyreport.files import Claims, current_folder
from comfyreport.flags.arguments import build_parser, parse, parse_reporting
from comfyreport.flags.plugin_flags import Flags, parsed
from comfyreport.jobs.preparing import options_of, prepare
from comfyreport.workflow.files import Workflow


@contextlib.contextmanager
def loaded_plugins(command: str, words: Sequence[str], signals: Signals) -> Iterator[LoadedPlugins | None]:
    """The plugins that *words* and the environment name, loaded; None where they name none.

    As long as the context lasts, the standard streams are the reporters' alone.
    """
    arguments = parse_reporting(words)
    if not plugin_names(arguments):
        yield None
        return
    # They are claimed as they are at first: the command moves the standard streams.
    claims = Claims()
    with opened(arguments, signals, claims) as loading:
        loaded = LoadedPlugins(command, words, arguments, loading, claims)
        loaded.load()
        yield loaded


class LoadedPlugins:
    """The plugins of one command: what they add to its parser and do with its workflow."""

    def __init__(
        self, command: str, words: Sequence[str], arguments: Namespace, loading: Loading, claims: Claims
    ) -> None:
        self.loading = loading
        self.claims = claims
        self._command = command
        self._words = words
        self._arguments = arguments
        self._flags = Flags(build_parser(command))

    def load(self) -> None:
        """Load them, and ask them for their flags; what can't be loaded is the error of `loading`."""
        folder = current_folder()
        self.loading.load(self._cancel)
        for ask in self._flags.ask(self.loading.plugins.reporters):
            self.loading.attempt(ask, self._cancel)
        # Relative paths start where the command was started.
        with contextlib.suppress(OSError):
            os.chdir(folder)

    def parse(self) -> Namespace:
        """The command line's arguments, with those of plugins; as `arguments.parse` does it."""
        with self.loading.signals.may_block(self._cancel):
            return parsed(lambda: parse(self._command, self._words, self._flags.parser), self._flags)

    def prepare(self, arguments: Namespace, server: str) -> Callable[[Workflow], Workflow]:
        """What lets the plugins change or refuse a workflow, told of *arguments*."""
        options = options_of(arguments, server)
        # Those of -p alone: reporters come later.
        plugins = tuple(self.loading.plugins.reporters)

        def prepared(workflow: Workflow) -> Workflow:
            try:
                return prepare(workflow, plugins, options)
            finally:
                self.loading.signals.keep()

        return prepared

    def _cancel(self) -> int:
        """Go on without a plugin that is blocked: the reporters are told that the command was cancelled."""
        return run_session(self._arguments, self._command, "", error=KeyboardInterrupt(), loading=self.loading)
