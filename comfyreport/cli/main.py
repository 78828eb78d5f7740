"""The command line: arguments, signals, standard streams, exit codes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from comfyreport.cli.process import (
    EXIT_INTERRUPTED,
    FINAL_WRITE_SECONDS,
    Signals,
    fill_descriptors,
    leave,
    redirect_stray_output,
    report_stdout_failure,
    standard_streams,
)
from comfyreport.reporting.worker import Worker, call_within

# What isn't needed to take the signals is imported where it is used: the sooner they are taken, the better.
if TYPE_CHECKING:
    import argparse

EXIT_USAGE = 2

RESULTS_AT_ONCE = 20
"""Lines of results that are written together, so that a reader that is slow can be told from one that is gone."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; the exit code. Usage errors too are returned, not raised."""
    fill_descriptors()
    with Signals() as signals:
        return _main(argv, signals)


def command() -> NoReturn:
    """The installed command: `main`, and an end that no thread of a plugin can hold up."""
    code = EXIT_INTERRUPTED
    try:
        # Before the signals are taken, or in a command that has nothing to cancel.
        with contextlib.suppress(KeyboardInterrupt):
            fill_descriptors()
            # They are ours to the very end of the process.
            code = _main(None, Signals().take())
        leave(code)
    except KeyboardInterrupt:
        os._exit(EXIT_INTERRUPTED)


def _main(argv: Sequence[str] | None, signals: Signals) -> int:
    from comfyreport.cli.arguments import COMMANDS, ArgumentsError, parse

    words = list(sys.argv[1:] if argv is None else argv)
    command = words.pop(0) if words and words[0] in COMMANDS else "run"
    if command not in _STREAMS:
        signals.give_back(kept=True)
    try:
        arguments = parse(command, words)
    except ArgumentsError as error:
        return _usage(command, words, str(error))
    except SystemExit as stop:
        return int(stop.code or 0)
    return _STREAMS[command](arguments, signals) if command in _STREAMS else _OTHERS[command](arguments)


def _usage(command: str, words: Sequence[str], message: str) -> int:
    """Bad flags. Whoever reads a stream that could be opened is told its end all the same."""
    asked = any(word.startswith(("--reporter", "--json", "--quiet")) for word in words)
    if command not in ("run", "attach", "replay") or not (asked or os.environ.get("COMFYREPORT_REPORTER")):
        return _complain(message, f"see comfyreport {command} --help")
    from comfyreport.cli.arguments import reporting_of
    from comfyreport.errors import UsageError

    arguments = reporting_of(words)
    return _report(arguments, command, "", error=UsageError(message, hint=f"see comfyreport {command} --help"))


# --- run and replay


def _run(arguments: argparse.Namespace, signals: Signals) -> int:
    """`run` and `attach`, which differ only in where the prompt comes from."""
    from comfyreport.engine.job import Job, run_job
    from comfyreport.engine.options import RunOptions
    from comfyreport.errors import UsageError
    from comfyreport.net.access import Access, parse_extra_data, parse_headers

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
        options=RunOptions(
            timeout=arguments.timeout,
            wait_for_server=arguments.wait_for_server or 0.0,
            on_interrupt=arguments.on_interrupt,
            take_over=attach and arguments.take_over,
            expect_outputs=arguments.expect_outputs,
            ping_interval=arguments.ping_interval,
        ),
    )

    def act(session: Any) -> None:
        run_job(session, job, on_loop=lambda loop: signals.use(loop.stop))

    return _report(arguments, arguments.command, job.shown_server, signals, act=act, error=error)


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


def _replay(arguments: argparse.Namespace, signals: Signals) -> int:
    from comfyreport.errors import ComfyReportError
    from comfyreport.recording.player import Recording, read_recording
    from comfyreport.recording.replay import Stop, replay

    recording: Recording | None = None
    error: ComfyReportError | None = None
    try:
        recording = read_recording(arguments.recording)
    except ComfyReportError as raised:
        error = raised

    def act(session: Any) -> None:
        assert recording is not None
        stop = Stop()
        signals.use(stop.set)
        replay(session, recording, speed=arguments.speed, stop=stop)

    server = "" if recording is None else recording.server
    return _report(arguments, "replay", server, signals, act=act, error=error)


def _report(
    arguments: argparse.Namespace,
    command: str,
    server: str,
    signals: Signals | None = None,
    *,
    act: Callable[[Any], None] | None = None,
    error: Exception | None = None,
) -> int:
    """Open the reporters, do *act* or tell *error*, close them; the exit code."""
    from comfyreport.engine.session import Session
    from comfyreport.reporting.plugins import StandardStreams
    from comfyreport.reporting.streams import Stream, Terminals

    terminals = Terminals()
    with contextlib.ExitStack() as first, standard_streams() as (out, err), contextlib.ExitStack() as stack:
        signals = signals or first.enter_context(Signals())
        signals.restore_terminals = terminals.restore
        streams = StandardStreams(
            Stream(out, name="stdout", color=arguments.color, terminals=terminals),
            Stream(err, name="stderr", color=arguments.color, terminals=terminals),
        )
        for stream in streams:
            stream.remember_writes()
        plugins, unusable = _load(arguments, streams)
        error = error or unusable
        # The same place as stderr; but what is written here is none of a reporter's.
        aside = Stream(err, name="stderr", terminals=terminals)

        def write_aside(text: str) -> None:
            aside.write(text)
            aside.flush()

        def complain(line: str) -> None:
            write_aside(f"comfyreport: {line}\n")

        if terminals.drawing_streams:
            stack.enter_context(redirect_stray_output(write_aside))
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
            act(session)
        # One that came too early to change anything cuts nothing short either.
        signals.use(lambda: None)
        session.hurry = session.hurry or signals.count > 1
        signals.use(session.leave)
        code = session.finish(lambda: _print_results(plugins, session, streams))
        _release(terminals)
        return code


def _load(arguments: argparse.Namespace, streams: Any) -> tuple[Any, Exception | None]:
    """The reporters and plugins that were asked for, and why the first of those that can't be had can't."""
    from comfyreport.errors import ReporterError
    from comfyreport.reporting.plugins import Plugins

    error: ReporterError | None = None
    blocked = {word[3:] for word in arguments.plugins if word.startswith("no:")}
    plugins = Plugins(streams, blocked)
    for add, name in _chosen(arguments, plugins):
        try:
            add(name)
        except ReporterError as raised:
            error = error or raised
    return plugins, error


def _release(terminals: Any) -> None:
    """Let go of terminals where somebody still draws: one that is stuck, or that nobody waited for."""
    for stream in terminals.drawing_streams:
        with contextlib.suppress(OSError, ValueError):
            call_within(FINAL_WRITE_SECONDS, stream.release)


def _chosen(arguments: argparse.Namespace, plugins: Any) -> Iterator[tuple[Callable[[str], None], str]]:
    """What to load: each with the method that loads it. Plugins first, so that a reporter may rest on one."""
    import re

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
    """The results, where no reporter has stdout; a failure in one line, where none has told it to a person."""
    from comfyreport.engine.output_files import worth_saving
    from comfyreport.render.wording import summarize_result

    used = [reporter.stream for reporter in plugins.reporters if reporter.stream is not None]
    for result in session.results:
        if streams.stdout not in used:
            outputs = [result.outputs[index] for index in worth_saving(result.outputs)]
            why = _write_results(streams.stdout, [str(output.path or output.url) for output in outputs], session.timing)
            if why:
                session.fail_beside_run(f"stdout can't be written: {why}")
        telling = [stream for stream in used if stream is streams.stderr or stream.tty]
        if result.exit_code and not any(stream.has_written(_message_start(result)) for stream in telling):
            session.complain(summarize_result(result))


def _message_start(result: Any) -> str:
    """What stands in any account of how a run failed: the beginning of its message."""
    import re

    from comfyreport.text import printable

    message = result.error.message if result.error is not None else ""
    return re.split(r'["\\\n]', printable(message.strip()))[0][:30].strip() or str(result.status)


def _write_results(stream: Any, lines: Sequence[str], timing: Any) -> str:
    """Write *lines* as long as they are taken; why not all of them went out. A reader that left has its reasons."""
    worker = Worker()

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    for start in range(0, len(lines), RESULTS_AT_ONCE):
        text = "".join(f"{line}\n" for line in lines[start : start + RESULTS_AT_ONCE])
        try:
            if not worker.run(partial(write, text), timing.close_limit):
                return "nobody reads it"
        except BrokenPipeError:
            return ""
        except (OSError, ValueError) as error:
            return getattr(error, "strerror", None) or str(error)
    return ""


# --- the other commands


def _reporters(arguments: argparse.Namespace) -> int:
    from comfyreport.cli.listing import list_reporters
    from comfyreport.errors import ReporterError

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
    from comfyreport.text import printable

    lines = [f"comfyreport: error: {printable(message)}", *([f"  Hint: {printable(hint)}"] if hint else [])]
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
        return 0 if isinstance(error, BrokenPipeError) else EXIT_REPORTER_FAILED
    return 0


_STREAMS: dict[str, Callable[[argparse.Namespace, Signals], int]] = {"run": _run, "attach": _run, "replay": _replay}
"""The commands that write an event stream, which has an end whenever a signal comes."""

_OTHERS: dict[str, Callable[[argparse.Namespace], int]] = {
    "reporters": _reporters,
    "simulate": _simulate,
    "schema": _schema,
}
