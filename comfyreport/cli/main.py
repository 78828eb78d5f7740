"""The command line: arguments, signals, standard streams, exit codes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
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
    from comfyreport.engine.loop import Loop
    from comfyreport.errors import UsageError
    from comfyreport.files import Claims
    from comfyreport.jobs.session import Session

EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_REJECTED = 4
EXIT_LIMIT = 70

_STOPPING = {
    "cancel": "cancelling… (Ctrl-C again to leave at once)",
    "detach": "leaving… (Ctrl-C again to leave at once)",
}
"""What is said at the first signal, by what `--on-interrupt` wants."""


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
    from comfyreport.cli.arguments import COMMANDS, ArgumentsError, parse

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
            return _print(help_text.getvalue().removesuffix("\n")) or _tell_unloaded(loaded)
        if getattr(arguments, "dry_run", False):
            signals.restore(raise_pending=True)
            return _dry_run(arguments, loaded)
        if command in _STREAMS:
            return _STREAMS[command](arguments, signals, loaded)
    return _OTHERS[command](arguments)


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
    from comfyreport.cli.arguments import parse_reporting
    from comfyreport.cli.session_runner import run_session
    from comfyreport.errors import UsageError

    error = unloaded or UsageError(message, hint=f"see comfyreport {command} --help")
    arguments = parse_reporting(words)
    claims = _claims(arguments, loaded)[0]
    return run_session(
        arguments, command, "", error=error, claims=claims, loading=None if loaded is None else loaded.loading
    )


def _claims(arguments: argparse.Namespace, loaded: LoadedPlugins | None) -> tuple[Claims, UsageError | None]:
    """The files that the flags name, and the error if two flags name one."""
    from comfyreport.access.credentials import certificate_files
    from comfyreport.cli.input_flags import files_of, given_files
    from comfyreport.jobs.file_claims import claim_files, input_reads

    headers = [value[1:] for value in getattr(arguments, "header", ()) if value.startswith("@")]
    # One file may hold them all.
    certificates = [
        getattr(arguments, "cacert", None), *certificate_files(getattr(arguments, "client_cert", None) or "")
    ]  # fmt: skip
    reads = [
        ("--workflow", getattr(arguments, "workflow", None)),
        *files_of(arguments),
        *(("--header", path) for path in dict.fromkeys(headers)),
        *(("--cacert, --client-cert", path) for path in dict.fromkeys(certificates)),
        ("the recording", getattr(arguments, "recording", None)),
        *input_reads(given_files(arguments), getattr(arguments, "workflow", None)),
    ]
    return claim_files(
        [(use, path) for use, path in reads if path],
        output=getattr(arguments, "output", None),
        record=getattr(arguments, "record", None),
        claims=None if loaded is None else loaded.claims,
    )


# --- run and replay


def _run(arguments: argparse.Namespace, signals: Signals, loaded: LoadedPlugins | None) -> int:
    """`run` and `attach`, which differ only in where the prompt comes from."""
    from dataclasses import replace
    from functools import partial

    from comfyreport.cli.credentials import access_of, parse_extra_data
    from comfyreport.cli.input_flags import given_files, settings_of
    from comfyreport.cli.session_runner import run_session
    from comfyreport.engine.options import RunOptions
    from comfyreport.errors import UsageError
    from comfyreport.jobs.job import Job, run_job
    from comfyreport.workflow.settings import Settings

    attach = arguments.command == "attach"
    claims, error = _claims(arguments, loaded)
    job = Job(
        server=arguments.server,
        workflow=None if attach else arguments.workflow,
        prompt_id=arguments.prompt_id if attach else "",
        settings=Settings() if attach else settings_of(arguments),
        files=given_files(arguments),
        output=arguments.output,
        overwrite=arguments.overwrite,
        sidecar=arguments.sidecar,
        record=arguments.record,
        learn=not arguments.no_learn,
        options=RunOptions(
            timeout=arguments.timeout,
            max_eta=arguments.max_eta,
            wait_for_server=arguments.wait_for_server or 0.0,
            on_interrupt=arguments.on_interrupt,
            take_over=attach and arguments.take_over,
            expect_outputs=arguments.expect_outputs,
            ping_interval=arguments.ping_interval,
            include_temp=arguments.include_temp,
        ),
    )
    try:
        with _may_block(arguments, job.shown_server, signals, loaded):
            access = access_of(arguments, {} if attach else parse_extra_data(arguments.extra_data))
        job = replace(job, access=access)
        if loaded is not None:
            job = replace(job, prepare=loaded.prepare(arguments, job.shown_server))
    except UsageError as raised:
        error = error or raised

    def work(session: Session, preparing: AbstractContextManager[None]) -> None:
        def stop(loop: Loop) -> None:
            loop.stop()
            if loop.stops == 1:
                session.announce(_STOPPING[arguments.on_interrupt])

        # Where a plugin has put Python's own handler back; the run's end is told by then.
        with contextlib.suppress(KeyboardInterrupt):
            run_job(session, job, preparing=preparing, on_loop=lambda loop: signals.use(partial(stop, loop)))

    loading = None if loaded is None else loaded.loading
    server = job.shown_server
    return run_session(
        arguments, arguments.command, server, signals, work=work, error=error, claims=claims, loading=loading
    )


def _replay(arguments: argparse.Namespace, signals: Signals, loaded: LoadedPlugins | None) -> int:
    from comfyreport.cli.session_runner import run_session
    from comfyreport.errors import ComfyReportError
    from comfyreport.jobs.replay import Stop, replay
    from comfyreport.recording.player import Recording
    from comfyreport.recording.shipped import find_recording

    recording: Recording | None = None
    error: ComfyReportError | None = None
    try:
        with _may_block(arguments, "", signals, loaded):
            recording = find_recording(arguments.recording)
    except ComfyReportError as raised:
        error = raised

    def work(session: Session, preparing: AbstractContextManager[None]) -> None:
        assert recording is not None
        stop = Stop()
        signals.use(stop.set)
        replay(session, recording, speed=arguments.speed, stop=stop)

    server = "" if recording is None else recording.server
    claims = _claims(arguments, loaded)[0]
    loading = None if loaded is None else loaded.loading
    return run_session(arguments, "replay", server, signals, work=work, error=error, claims=claims, loading=loading)


def _may_block(
    arguments: argparse.Namespace, server: str, signals: Signals, loaded: LoadedPlugins | None
) -> AbstractContextManager[None]:
    """For what may block before there is a session; one that only tells that it was cancelled takes its place."""
    from comfyreport.cli.session_runner import run_session

    loading = None if loaded is None else loaded.loading
    return signals.may_block(
        lambda: run_session(arguments, arguments.command, server, signals, error=KeyboardInterrupt(), loading=loading)
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
    from comfyreport.cli.inspecting import dry_run

    if loaded is None:
        return _told(lambda: dry_run(arguments))
    _tell_unloaded(loaded)
    return EXIT_USAGE if loaded.loading.error else _told(lambda: dry_run(arguments, loaded.prepare(arguments, "")))


def _told(find: Callable[[], str]) -> int:
    """Print the text that *find* gives, or say on stderr why there is none; the exit code."""
    from comfyreport.errors import ComfyReportError, UnreachableError, UsageError

    try:
        return _print(find())
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
        code = _print(url)
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

    return _print(json.dumps(json_schema(), indent=2))


def _print(text: str) -> int:
    """Write *text* to stdout; the exit code."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        from comfyreport.events import EXIT_REPORTER_FAILED

        report_stdout_failure(error, sys.stderr)
        return 0 if is_closed_pipe(error) else EXIT_REPORTER_FAILED
    return 0


_STREAMS: dict[str, Callable[[argparse.Namespace, Signals, LoadedPlugins | None], int]] = {
    "run": _run,
    "attach": _run,
    "replay": _replay,
}
"""The commands that write an event stream, which has an end whenever a signal comes."""

_OTHERS: dict[str, Callable[[argparse.Namespace], int]] = {
    "inspect": _inspect,
    "convert": _convert,
    "reporters": _reporters,
    "timings": _timings,
    "simulate": _simulate,
    "schema": _schema,
}
