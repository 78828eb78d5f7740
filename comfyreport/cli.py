"""The command line: arguments, signals, standard streams, exit codes."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from comfyreport.arguments import COMMANDS, ArgumentsError, parse, reporting_of
from comfyreport.codes import EXIT_REPORTER_FAILED
from comfyreport.process import (
    EXIT_INTERRUPTED,
    Signals,
    Stop,
    fill_descriptors,
    leave,
    standard_streams,
    strays,
    tell_stdout_failed,
)

EXIT_USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; the exit code. Usage errors too are returned, not raised."""
    fill_descriptors()
    words = list(sys.argv[1:] if argv is None else argv)
    command = words.pop(0) if words and words[0] in COMMANDS else "run"
    try:
        arguments = parse(command, words)
    except ArgumentsError as error:
        return _usage(command, words, str(error))
    except SystemExit as stop:
        return int(stop.code or 0)
    return _DO[command](arguments)


def command() -> NoReturn:
    """The installed command: `main`, and an end that no thread of a plugin can hold up."""
    try:
        code = main()
    except KeyboardInterrupt:
        # Before there was anything to stop, or in a command that has nothing to cancel.
        code = EXIT_INTERRUPTED
    leave(code)


def _usage(command: str, words: Sequence[str], message: str) -> int:
    """Bad flags. Whoever reads a stream that could be opened is told its end all the same."""
    asked = any(word.startswith(("--reporter", "--json", "--quiet")) for word in words)
    if command not in ("run", "attach", "replay") or not (asked or os.environ.get("COMFYREPORT_REPORTER")):
        return _complain(message, f"see comfyreport {command} --help")
    from comfyreport.errors import UsageError

    arguments = reporting_of(words)
    return _report(arguments, command, "", error=UsageError(message, hint=f"see comfyreport {command} --help"))


# --- run and replay


def _run(arguments: argparse.Namespace) -> int:
    """`run` and `attach`, which differ only in where the prompt comes from."""
    from comfyreport.access import Access, parse_extra_data, parse_headers
    from comfyreport.errors import UsageError
    from comfyreport.tracker import Job, run_job
    from comfyreport.wishes import Wishes

    attach = arguments.command == "attach"
    error: UsageError | None = None
    access = Access()
    try:
        access = Access.of(
            os.environ,
            headers=parse_headers(arguments.header),
            extra_data={} if attach else parse_extra_data(arguments.extra_data),
            cacert=arguments.cacert or "",
            insecure=arguments.insecure,
        )
    except UsageError as raised:
        error = raised
    job = Job(
        server=arguments.server,
        workflow=None if attach else arguments.workflow,
        prompt_id=arguments.prompt_id if attach else "",
        prompt=None if attach else arguments.prompt,
        output=arguments.output,
        record=arguments.record,
        access=access,
        wishes=Wishes(
            timeout=arguments.timeout,
            wait_for_server=arguments.wait_for_server or 0.0,
            on_interrupt=arguments.on_interrupt,
            take_over=attach and arguments.take_over,
            expect_outputs=arguments.expect_outputs,
            ping_interval=arguments.ping_interval,
        ),
    )

    def act(session: Any, signals: Signals) -> None:
        run_job(session, job, on_loop=lambda loop: signals.use(loop.stop))

    return _report(arguments, arguments.command, job.shown_server, act=act, error=error)


def _timing(arguments: argparse.Namespace) -> Any:
    """The waits, with those that the flags set."""
    from dataclasses import replace

    from comfyreport.timing import Timing

    asked = {
        "stall_warn": getattr(arguments, "stall_warn", None),
        "lost_after": getattr(arguments, "lost_after", None),
        "lost_after_refused": getattr(arguments, "lost_after", None),
    }
    return replace(Timing.of(os.environ), **{name: value for name, value in asked.items() if value is not None})


def _replay(arguments: argparse.Namespace) -> int:
    from comfyreport.errors import ComfyReportError
    from comfyreport.recording import Recording, read_recording
    from comfyreport.replay import replay

    recording: Recording | None = None
    error: ComfyReportError | None = None
    try:
        recording = read_recording(arguments.recording)
    except ComfyReportError as raised:
        error = raised

    def act(session: Any, signals: Signals) -> None:
        assert recording is not None
        stop = Stop()
        signals.use(stop.set)
        replay(session, recording, speed=arguments.speed, stop=stop)

    server = "" if recording is None else recording.server
    return _report(arguments, "replay", server, act=act, error=error)


def _report(
    arguments: argparse.Namespace,
    command: str,
    server: str,
    *,
    act: Callable[[Any, Signals], None] | None = None,
    error: Exception | None = None,
) -> int:
    """Open the reporters, do *act* or tell *error*, close them; the exit code."""
    from comfyreport.errors import ReporterError
    from comfyreport.plugins import Plugins, Streams
    from comfyreport.session import Session
    from comfyreport.streams import Stream, Terminals

    terminals = Terminals()
    with Signals() as signals, standard_streams() as (out, err), contextlib.ExitStack() as stack:
        signals.tidy = terminals.restore
        streams = Streams(
            Stream(out, name="stdout", color=arguments.color, terminals=terminals),
            Stream(err, name="stderr", color=arguments.color, terminals=terminals),
        )
        blocked = {word[3:] for word in arguments.plugins if word.startswith("no:")}
        plugins = Plugins(streams, blocked)
        for add, name in _chosen(arguments, plugins):
            try:
                add(name)
            except ReporterError as raised:
                error = error or raised

        # The same place as stderr; but what is written here is none of a reporter's.
        aside = Stream(err, name="stderr", terminals=terminals)

        def write_aside(text: str) -> None:
            aside.write(text)
            aside.flush()

        def complain(line: str) -> None:
            with contextlib.suppress(OSError, ValueError):
                write_aside(f"comfyreport: {line}\n")

        if terminals.artists:
            stack.enter_context(strays(write_aside))
        session = Session(
            plugins,
            command=command,
            server=server,
            timing=_timing(arguments),
            complain=complain,
            trace=_trace(complain),
        )
        if error is not None:
            session.fail(error)
        elif act is not None:
            act(session, signals)
        session.hurry = session.hurry or signals.count > 1
        signals.use(session.leave)
        code = session.finish()
        for artist in terminals.artists:
            # One that is stuck, or that nobody waited for.
            artist.release()
        _print_results(plugins, session, streams)
        return code


def _chosen(arguments: argparse.Namespace, plugins: Any) -> Iterator[tuple[Callable[[str], None], str]]:
    """What to load: each with the method that loads it. Plugins first, so that a reporter may rest on one."""
    asked = [word for word in arguments.plugins if not word.startswith("no:")]
    for name in [*re.split(r"[\s,]+", os.environ.get("COMFYREPORT_PLUGINS", "")), *asked]:
        if name:
            yield plugins.add_plugin, name
    specs = list(arguments.reporter)
    specs += ["quiet"] * arguments.quiet + ["jsonl"] * arguments.json_progress
    for spec in specs or os.environ.get("COMFYREPORT_REPORTER", "").split() or ["console"]:
        yield plugins.add_spec, spec


def _trace(complain: Callable[[str], None]) -> Callable[[str, str, float], None] | None:
    if not os.environ.get("COMFYREPORT_DEBUG"):
        return None
    return lambda name, hook, seconds: complain(f"debug: {name}.{hook} took {seconds * 1000:.3f} ms")


def _print_results(plugins: Any, session: Any, streams: Any) -> None:
    """The results, where no reporter has stdout; a failure in one line, where none tells it to a person."""
    from comfyreport.outputs import worth_saving
    from comfyreport.wording import summarize_result

    used = [reporter.stream for reporter in plugins.reporters if reporter.stream is not None]
    for result in session.results:
        if streams.stdout not in used:
            outputs = [result.outputs[index] for index in worth_saving(result.outputs)]
            try:
                streams.stdout.write("".join(f"{output.path or output.url}\n" for output in outputs))
                streams.stdout.flush()
            except OSError as error:
                tell_stdout_failed(error, sys.stderr)
        if result.exit_code and not any(stream is streams.stderr or stream.tty for stream in used):
            with contextlib.suppress(OSError):
                streams.stderr.write(f"comfyreport: {summarize_result(result)}\n")
    for stream in streams:
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


# --- the other commands


def _reporters(arguments: argparse.Namespace) -> int:
    from comfyreport.errors import ReporterError
    from comfyreport.listing import list_reporters

    try:
        text = list_reporters(arguments.name, as_json=arguments.json)
    except ReporterError as error:
        return _complain(error.message, error.hint)
    return _print(text)


def _simulate(arguments: argparse.Namespace) -> int:
    try:
        from comfyreport.simulator import serve
    except ImportError as error:
        return _complain(str(error))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        serve(arguments.port, arguments.speed, lambda line: print(line, flush=True))
    except OSError as error:
        return _complain(f"port {arguments.port} can't be used: {error.strerror or error}", "choose another: --port N")
    except KeyboardInterrupt:
        pass
    return 0


def _complain(message: str, hint: str = "") -> int:
    """Say on stderr what is wrong with the arguments; the exit code."""
    print(f"comfyreport: error: {message}" + (f"\n  Hint: {hint}" if hint else ""), file=sys.stderr)
    return EXIT_USAGE


def _schema(arguments: argparse.Namespace) -> int:
    import json

    from comfyreport.schema import json_schema

    return _print(json.dumps(json_schema(), indent=2))


def _print(text: str) -> int:
    """Write *text* to stdout; the exit code."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        tell_stdout_failed(error, sys.stderr)
        return 0 if isinstance(error, BrokenPipeError) else EXIT_REPORTER_FAILED
    return 0


_DO: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "attach": _run,
    "replay": _replay,
    "reporters": _reporters,
    "simulate": _simulate,
    "schema": _schema,
}
