"""The command line: arguments, signals, standard streams, exit codes."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TextIO

from comfyreport._version import __version__

COMMANDS = ("run", "replay", "reporters", "simulate", "schema")
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

_EPILOG = """\
commands:
  comfyreport [run] --workflow FILE   run a workflow (the default command)
  comfyreport replay RECORDING        play a recorded session through the reporters
  comfyreport reporters [NAME]        what is installed: reporters, options, load errors
  comfyreport simulate                a simulated ComfyUI on loopback
  comfyreport schema                  the JSON Schema of the event stream
  'comfyreport COMMAND --help' tells more of each.

exit codes:
  0 success · 1 a node failed, or somebody interrupted · 2 usage · 3 no usable ComfyUI · 4 workflow refused
  5 the run was fine, a reporter failed · 6 prompt lost · 7 time limit · 8 incomplete · 70 internal · 130 stopped
"""


class _UsageError(Exception):
    """argparse found the arguments wanting."""


class _Parser(argparse.ArgumentParser):
    """argparse that leaves telling and exiting to `main`."""

    def error(self, message: str) -> NoReturn:
        raise _UsageError(message)


def parser(command: str = "run") -> argparse.ArgumentParser:
    """The parser of one command; pure, so that completion and documentation can be made of it."""
    if command == "run":
        made = _Parser(
            prog="comfyreport",
            usage="comfyreport [run] --workflow FILE [options]",
            description="Run a ComfyUI workflow and report its progress.",
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        made.add_argument("--version", action="version", version=f"comfyreport {__version__}")
        _add_run(made)
        _add_reporting(made)
        return made
    about = {
        "replay": "Play a recorded session through the reporters; exits with the recorded run's code.",
        "reporters": "List the installed reporters, or tell everything about one.",
        "simulate": "Run a simulated ComfyUI on 127.0.0.1 until it is interrupted.",
        "schema": "Print the JSON Schema of the event stream (what the jsonl reporter writes).",
    }
    made = _Parser(prog=f"comfyreport {command}", description=about[command], allow_abbrev=False)
    if command == "replay":
        made.add_argument("recording", metavar="RECORDING", help="a file that --record wrote")
        made.add_argument(
            "--speed", type=_speed, default=1.0, metavar="X", help="times the recorded pace; 0: at once (default 1)"
        )
        _add_reporting(made)
    elif command == "reporters":
        made.add_argument("name", nargs="?", metavar="NAME", help="tell everything about this one")
        made.add_argument("--json", action="store_true", help="as JSON")
    elif command == "simulate":
        made.add_argument("--port", type=_port, default=8188, metavar="N", help="port (default 8188; 0: any free one)")
        made.add_argument("--speed", type=_positive, default=1.0, metavar="X", help="times the usual pace (default 1)")
    return made


def _add_run(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("the run")
    group.add_argument("--workflow", metavar="FILE", required=True, help="the workflow, in API format")
    group.add_argument("--prompt", metavar="TEXT", help="the text of the positive prompt")
    group.add_argument(
        "--output", metavar="PATH", help="a file, or a folder, for what is made (default: its URL is printed)"
    )
    group.add_argument(
        "--server",
        metavar="URL",
        default="",
        help="where ComfyUI is (default: COMFYREPORT_SERVER, else http://127.0.0.1:8188); sim: a simulated one",
    )
    group.add_argument("--timeout", type=_positive, metavar="S", help="limit for the whole run in seconds")
    group.add_argument("--record", metavar="FILE", help="keep what crosses the wire, for 'comfyreport replay'")


def _add_reporting(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("reporting")
    group.add_argument(
        "--reporter",
        action="append",
        default=[],
        metavar="NAME[=DEST][,OPTION=VALUE]…",
        help="a reporter; may be given several times (default: COMFYREPORT_REPORTER, else console). "
        "DEST is a path, - for stdout, or stderr",
    )
    group.add_argument("--quiet", action="store_true", help="errors only: --reporter quiet")
    group.add_argument("--json-progress", action="store_true", help="JSON lines on stdout: --reporter jsonl")
    group.add_argument(
        "-p", action="append", default=[], dest="plugins", metavar="NAME", help="load a plugin; no:NAME blocks one"
    )
    group.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="when to colour")


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number over 0")
    return value


def _speed(text: str) -> float:
    return 0.0 if float(text) == 0 else _positive(text)


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value < 65536:
        raise argparse.ArgumentTypeError(f"{text} is no port")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; the exit code. Usage errors too are returned, not raised."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = words.pop(0) if words and words[0] in COMMANDS else "run"
    try:
        arguments = parser(command).parse_args(words)
    except _UsageError as error:
        return _usage(command, words, str(error))
    except SystemExit as stop:
        return int(stop.code or 0)
    with contextlib.suppress(BrokenPipeError):
        return _DO[command](arguments)
    return 0


def command() -> NoReturn:
    """The installed command: `main`, and an end that no thread of a plugin can hold up."""
    _fill_descriptors()
    try:
        code = main()
    except KeyboardInterrupt:
        # Before there was anything to stop, or in a command that has nothing to cancel.
        code = EXIT_INTERRUPTED
    try:
        sys.stdout.flush()
    except OSError as error:
        _stdout_failed(error)
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def _fill_descriptors() -> None:
    """Give a process that was started without some of its standard streams null devices instead.

    Otherwise the next file to be opened would take the place of stdout or stderr.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # Python's own objects are None where the descriptor was closed at its start.
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _stdout_failed(error: OSError) -> None:
    """Say that what was to stand on stdout is lost; a reader that went away doesn't want to know."""
    if not isinstance(error, BrokenPipeError):
        with contextlib.suppress(OSError):
            sys.stderr.write(f"comfyreport: stdout can't be written: {error.strerror or error}\n")


def _usage(command: str, words: Sequence[str], message: str) -> int:
    """Bad flags. Whoever reads a stream that could be opened is told its end all the same."""
    if command not in ("run", "replay") or not any(
        word.startswith(("--reporter", "--json", "--quiet")) for word in words
    ):
        return _complain(message, f"see comfyreport {command} --help")
    known = _Parser(allow_abbrev=False, add_help=False)
    _add_reporting(known)
    try:
        arguments, _ = known.parse_known_args(words)
    except _UsageError:
        arguments = known.parse_args([])
    from comfyreport.errors import UsageError

    return _report(arguments, command, "", error=UsageError(message, hint=f"see comfyreport {command} --help"))


# --- run and replay


def _run(arguments: argparse.Namespace) -> int:
    from comfyreport.loop import Wishes
    from comfyreport.tracker import Job, run_job

    job = Job(
        server=arguments.server,
        workflow=arguments.workflow,
        prompt=arguments.prompt,
        output=arguments.output,
        record=arguments.record,
        wishes=Wishes(timeout=arguments.timeout),
    )

    def act(session: Any, stoppers: list[Callable[[], None]]) -> None:
        run_job(session, job, on_loop=lambda loop: stoppers.append(loop.stop))

    return _report(arguments, "run", job.shown_server, act=act)


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

    def act(session: Any, stoppers: list[Callable[[], None]]) -> None:
        assert recording is not None
        stopped = threading.Event()
        stoppers.append(stopped.set)
        replay(session, recording, speed=arguments.speed, stopped=stopped)

    server = "" if recording is None else recording.server
    return _report(arguments, "replay", server, act=act, error=error)


def _report(
    arguments: argparse.Namespace,
    command: str,
    server: str,
    *,
    act: Callable[[Any, list[Callable[[], None]]], None] | None = None,
    error: Exception | None = None,
) -> int:
    """Open the reporters, do *act* or tell *error*, close them; the exit code."""
    from comfyreport.errors import ReporterError
    from comfyreport.plugins import Plugins, Streams
    from comfyreport.session import Session
    from comfyreport.streams import Stream, Terminals
    from comfyreport.timing import Timing

    terminals = Terminals()
    with _standard_streams() as (out, err):
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
        stoppers: list[Callable[[], None]] = []

        def complain(line: str) -> None:
            with contextlib.suppress(OSError, ValueError):
                streams.stderr.write(f"comfyreport: {line}\n")
                streams.stderr.flush()

        with _signals(stoppers) as stopped:
            session = Session(
                plugins,
                command=command,
                server=server,
                timing=Timing.of(os.environ),
                complain=complain,
                trace=_trace(complain),
            )
            if error is not None:
                session.fail(error)
            elif act is not None:
                act(session, stoppers)
            session.hurry = session.hurry or stopped() > 1
            stoppers.append(session.leave)
            code = session.finish()
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
    from comfyreport.wording import describe_result

    used = [reporter.stream for reporter in plugins.reporters if reporter.stream is not None]
    for result in session.results:
        if streams.stdout not in used:
            for index in worth_saving(result.outputs):
                output = result.outputs[index]
                lines.append(f"{output.path or output.url}\n")
        if result.exit_code and not any(stream is streams.stderr or stream.tty for stream in used):
            with contextlib.suppress(OSError):
                streams.stderr.write(f"comfyreport: {describe_result(result)[0]}\n")
    for stream in streams:
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


@contextlib.contextmanager
def _standard_streams() -> Iterator[tuple[TextIO, TextIO]]:
    """stdout for reporters alone: descriptor 1 leads to stderr meanwhile, so that a stray print lands there."""
    try:
        private = os.dup(1)
    except OSError:
        # Started without a stdout.
        private = os.open(os.devnull, os.O_WRONLY)
    sys.stdout.flush()
    out = open(private, "w", encoding=sys.stdout.encoding, errors="backslashreplace", newline="\n")  # noqa: SIM115
    with contextlib.suppress(OSError):
        os.dup2(2, 1)
    try:
        yield out, sys.stderr
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        with contextlib.suppress(OSError):
            os.dup2(private, 1)
        with contextlib.suppress(OSError, ValueError):
            out.close()


@contextlib.contextmanager
def _signals(stoppers: list[Callable[[], None]]) -> Iterator[Callable[[], int]]:
    """SIGINT and SIGTERM call the newest of *stoppers*; yields how many came. The second leaves within a second."""
    count = 0
    told = 0

    def handle(number: int, frame: object) -> None:
        nonlocal count, told
        count += 1
        if count > 1:
            leave = threading.Timer(0.7, os._exit, [EXIT_INTERRUPTED])
            leave.daemon = True
            leave.start()
        if stoppers:
            told += 1
            stoppers[-1]()

    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        before = {number: signal.signal(number, handle) for number in numbers}
    except ValueError:
        # Not the main thread: signals are the program's own affair.
        before = {}
    try:
        yield lambda: count
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- the other commands


def _reporters(arguments: argparse.Namespace) -> int:
    from comfyreport.errors import ReporterError
    from comfyreport.listing import list_reporters

    try:
        print(list_reporters(arguments.name, as_json=arguments.json))
    except ReporterError as error:
        return _complain(error.message, error.hint)
    return 0


def _simulate(arguments: argparse.Namespace) -> int:
    try:
        from comfyreport.simulator import serve
    except ImportError as error:
        return _complain(str(error))
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
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

    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0


_DO: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "replay": _replay,
    "reporters": _reporters,
    "simulate": _simulate,
    "schema": _schema,
}
