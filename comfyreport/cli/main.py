"""The command line: arguments, signals, standard streams, exit codes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn

from comfyreport.cli.signals import Signals, raise_interrupts
from comfyreport.errors import is_closed_pipe, machine_limit
from comfyreport.process import (
    EXIT_INTERRUPTED,
    exit_now,
    open_missing_descriptors,
    report_stdout_failure,
    write_utf8,
)

# Whatever isn't needed to handle signals is imported where it is used: the sooner they are handled, the better.
if TYPE_CHECKING:
    import argparse
    from contextlib import AbstractContextManager

    from comfyreport.cli.loaded_plugins import LoadedPlugins

EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_REJECTED = 4
EXIT_LIMIT = 70


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code, for usage errors too."""
    try:
        open_missing_descriptors()
        with Signals() as signals:
            return _main(argv, signals)
    except Exception as error:  # noqa: BLE001  raised again if it isn't a limit of the machine
        return _tell_limit(error)


def command() -> NoReturn:
    """The installed command: `main`, then an exit that no thread of a plugin can delay."""
    code = EXIT_INTERRUPTED
    try:
        # Raised before the signals are handled, or in a command that has nothing to cancel.
        with contextlib.suppress(KeyboardInterrupt):
            try:
                open_missing_descriptors()
                write_utf8()
                # Never restored: they are handled until the process ends.
                code = _main(None, Signals().install())
            except Exception as error:  # noqa: BLE001  as in `main`
                code = _tell_limit(error)
        exit_now(code)
    except KeyboardInterrupt:
        os._exit(EXIT_INTERRUPTED)


def _tell_limit(error: Exception) -> int:
    """Tell on stderr what the machine refused before there was a stream, or behind it; the exit code.

    What else was raised is raised again.
    """
    limit = machine_limit(error)
    if limit is None:
        raise error
    with contextlib.suppress(OSError):
        os.write(2, f"comfyreport: {limit.message}\n  Hint: {limit.hint}\n".encode())
    return EXIT_LIMIT


def _main(argv: Sequence[str] | None, signals: Signals) -> int:
    from comfyreport.flags.arguments import COMMANDS, ArgumentsError, parse

    words = list(sys.argv[1:] if argv is None else argv)
    command = words.pop(0) if words and words[0] in COMMANDS else "run"
    if command not in _STREAMS:
        signals.restore(raise_pending=True)
    help_text = io.StringIO()
    with contextlib.ExitStack() as stack:
        loaded = stack.enter_context(_plugins(command, words, signals)) if _may_name_plugins(command, words) else None
        try:
            # argparse says nothing of a stdout that can't be written.
            with contextlib.redirect_stdout(help_text):
                arguments = parse(command, words) if loaded is None else loaded.parse()
        except ArgumentsError as error:
            return _usage(command, words, str(error), loaded)
        except SystemExit:
            # Behind it stdout is as it was.
            stack.close()
            return _print([help_text.getvalue().removesuffix("\n")]) or _tell_unloaded(loaded)
        if getattr(arguments, "dry_run", False):
            signals.restore(raise_pending=True)
            return _dry_run(arguments, loaded)
        if command in _STREAMS:
            return _stream(arguments, signals, loaded)
    return _OTHERS[command](arguments)


def _stream(arguments: argparse.Namespace, signals: Signals, loaded: LoadedPlugins | None) -> int:
    """Do one of the commands that write an event stream; the exit code."""
    from comfyreport.cli.running import replay, run
    from comfyreport.flags.batch_flags import wants_many

    if arguments.command == "replay":
        return replay(arguments, signals, loaded)
    if wants_many(arguments):
        from comfyreport.cli.many import run_many_command

        return run_many_command(arguments, signals, loaded)
    return run(arguments, signals, loaded)


def _may_name_plugins(command: str, words: Sequence[str]) -> bool:
    """Whether plugins may have to be loaded before *words* can be parsed: they add flags."""
    named = any(word.startswith("-p") for word in words) or os.environ.get("COMFYREPORT_PLUGINS")
    return command in _STREAMS and bool(named) and "--version" not in words


def _plugins(command: str, words: Sequence[str], signals: Signals) -> AbstractContextManager[LoadedPlugins | None]:
    from comfyreport.cli.loaded_plugins import loaded_plugins

    return loaded_plugins(command, words, signals)


def _tell_unloaded(loaded: LoadedPlugins | None) -> int:
    """Tell, behind the help, of a plugin that can't be loaded; the exit code."""
    error = None if loaded is None else loaded.loading.error
    return 0 if error is None else _complain(getattr(error, "message", "interrupted"), getattr(error, "hint", ""))


def _usage(command: str, words: Sequence[str], message: str, loaded: LoadedPlugins | None) -> int:
    """Report bad flags: as a run that failed where reporters are selected all the same, else on stderr alone.

    Where a plugin can't be loaded, its flags are missing, and that is told instead.
    """
    unloaded = None if loaded is None else loaded.loading.error
    selected = any(word.startswith(("--reporter", "--json", "--quiet")) for word in words)
    if command not in _STREAMS or not (unloaded or selected or os.environ.get("COMFYREPORT_REPORTER")):
        return _complain(message, f"see comfyreport {command} --help")
    from comfyreport.cli.running import claims_of
    from comfyreport.cli.session_runner import run_session
    from comfyreport.errors import UsageError
    from comfyreport.flags.arguments import parse_reporting

    error = unloaded or UsageError(message, hint=f"see comfyreport {command} --help")
    arguments = parse_reporting(words)
    claims = claims_of(arguments, loaded)[0]
    return run_session(
        arguments, command, "", error=error, claims=claims, loading=None if loaded is None else loaded.loading
    )


# --- the other commands


def _reporters(arguments: argparse.Namespace) -> int:
    from comfyreport.listings.reporters import list_reporters

    return _told(lambda: list_reporters(arguments.name, as_json=arguments.json))


def _timings(arguments: argparse.Namespace) -> int:
    from comfyreport.listings.timings import clear_timings, list_timings

    return _told(lambda: (clear_timings if arguments.clear else list_timings)(as_json=arguments.json))


def _inspect(arguments: argparse.Namespace) -> int:
    from comfyreport.cli.inspecting import inspect_workflow

    return _told(lambda: inspect_workflow(arguments))


def _convert(arguments: argparse.Namespace) -> int:
    from comfyreport.cli.inspecting import convert_workflow

    return _told(lambda: convert_workflow(arguments))


def _dry_run(arguments: argparse.Namespace, loaded: LoadedPlugins | None) -> int:
    from comfyreport.cli.inspecting import dry_runs

    if loaded is None:
        return _tell(dry_runs(arguments))
    _tell_unloaded(loaded)
    return EXIT_USAGE if loaded.loading.error else _tell(dry_runs(arguments, loaded.prepare(arguments, "")))


def _told(find: Callable[[], str]) -> int:
    """Print the text that *find* gives, or say on stderr why there is none; the exit code."""
    return _tell(each() for each in [find])


def _tell(texts: Iterable[str]) -> int:
    """Print *texts*, or say on stderr why there are no more; the exit code."""
    from comfyreport.errors import ComfyReportError, UnreachableError, UsageError

    try:
        return _print(texts)
    except ComfyReportError as error:
        _complain(error.message, error.hint)
        if isinstance(error, UsageError):
            return EXIT_USAGE
        return EXIT_UNREACHABLE if isinstance(error, UnreachableError) else EXIT_REJECTED


def _simulate(arguments: argparse.Namespace) -> int:
    try:
        from comfyreport.simulator import serve
    except ImportError as error:
        return _complain(str(error))
    raise_interrupts()
    code = 0

    def announce(url: str) -> None:
        nonlocal code
        code = _print([url])
        if code:
            raise KeyboardInterrupt

    try:
        serve(arguments.port, arguments.speed, announce, strict=arguments.strict)
    except OSError as error:
        return _complain(f"port {arguments.port} can't be used: {error.strerror or error}", "choose another: --port N")
    except KeyboardInterrupt:
        pass
    return code


def _complain(message: str, hint: str = "") -> int:
    """Write to stderr what is wrong with the arguments; the exit code."""
    from comfyreport.text import printable

    first, *others = message.split("\n")
    lines = [f"comfyreport: error: {printable(first)}", *(f"  {printable(line.strip())}" for line in others)]
    lines += [f"  Hint: {printable(hint)}"] if hint else []
    print("\n".join(lines), file=sys.stderr)
    return EXIT_USAGE


def _schema(arguments: argparse.Namespace) -> int:
    import json

    from comfyreport.events.schema import json_schema

    return _print([json.dumps(json_schema(), indent=2)])


def _print(texts: Iterable[str]) -> int:
    """Write *texts* to stdout, as long as somebody reads them; the exit code."""
    encoding = sys.stdout.encoding or "utf-8"
    for text in texts:
        try:
            print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
        except OSError as error:
            from comfyreport.events import EXIT_REPORTER_FAILED

            report_stdout_failure(error, sys.stderr)
            return 0 if is_closed_pipe(error) else EXIT_REPORTER_FAILED
    return 0


_STREAMS = ("run", "attach", "replay")
"""The commands that write an event stream, which has an end whenever a signal comes."""

_OTHERS: dict[str, Callable[[argparse.Namespace], int]] = {
    "inspect": _inspect,
    "convert": _convert,
    "reporters": _reporters,
    "timings": _timings,
    "simulate": _simulate,
    "schema": _schema,
}
