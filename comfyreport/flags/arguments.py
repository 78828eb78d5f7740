"""The command line's arguments: parsers and nothing else, so that completion and documentation can use them."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Sequence
from typing import NoReturn

from comfyreport._version import __version__
from comfyreport.flags import values
from comfyreport.flags.batch_flags import PATH_FLAGS, Several, add_batch_flags, wrong_batch_flags
from comfyreport.flags.input_flags import FILE_FLAGS, add_input_flags

COMMANDS = ("run", "attach", "replay", "inspect", "convert", "reporters", "timings", "simulate", "schema")
COLORS = ("auto", "always", "never")

_DESCRIPTIONS = {
    "run": "Run a ComfyUI workflow and report its progress.",
    "attach": (
        "Follow a prompt that is already queued, running or finished. ComfyUI tells the progress of a prompt only to "
        "the client that submitted it, or to everybody where it was submitted without a client id: elsewhere its place "
        "in the queue and its end are learned by asking."
    ),
    "replay": "Play a recorded session through the reporters; exits with the recorded run's code.",
    "inspect": (
        "Show what a workflow is made of: its nodes, what --prompt, --seed and the others would set, its outputs, the "
        "models and files that it needs; and what the server lacks of that, where there is one."
    ),
    "convert": (
        "Turn a workflow that ComfyUI's editor saved into the API format, as the editor itself would send it to the "
        "server. Runs need no such file: --workflow takes what the editor saved."
    ),
    "reporters": "List the installed reporters, or tell everything about one.",
    "timings": "Show how long nodes took in earlier runs, which estimates are made from, and where that is kept.",
    "simulate": "Run a simulated ComfyUI on 127.0.0.1 until it is interrupted.",
    "schema": "Print the JSON Schema of the event stream (what the jsonl reporter writes).",
}

_EPILOG = """\
commands:
  comfyreport [run] --workflow FILE   run a workflow (the default command)
  comfyreport attach PROMPT_ID        follow a prompt that is already queued or running
  comfyreport replay RECORDING        play a recorded session through the reporters
  comfyreport inspect WORKFLOW        nodes, what the flags would set, outputs, models; what the server lacks
  comfyreport convert FILE            a workflow that the editor saved, in API format
  comfyreport reporters [NAME]        what is installed: reporters, options, load errors
  comfyreport timings                 how long nodes took in earlier runs; --clear forgets it
  comfyreport simulate                a simulated ComfyUI on loopback
  comfyreport schema                  the JSON Schema of the event stream
  'comfyreport COMMAND --help' tells more of each.

exit codes:
  0 success; 1 a node failed, or somebody interrupted; 2 usage; 3 no usable ComfyUI; 4 workflow refused;
  5 the run was fine, a reporter, stdout or the recording failed; 6 prompt lost; 7 time limit; 8 incomplete;
  70 internal; 130 stopped
"""


class ArgumentsError(Exception):
    """The arguments can't be parsed; the message is argparse's."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that neither prints errors nor exits."""

    def error(self, message: str) -> NoReturn:
        """Raise ArgumentsError instead of exiting."""
        # A value for a flag that takes none may be secret.
        raise ArgumentsError(re.sub(r"(?s)ignored explicit argument .*", "it takes no value", message))


def parse(command: str, words: Sequence[str], parser: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    """The arguments of *command*. ArgumentsError names an unknown word rather than a missing flag.

    :param parser: its parser with the flags of plugins; None: there are none.
    """
    parser = parser or build_parser(command)
    if command == "run" and words and not words[0].startswith("-"):
        if _lacks_flag(words, words[:1]):
            raise ArgumentsError(_MISSING_FLAG)
        near = difflib.get_close_matches(words[0], COMMANDS, 1)
        shown = repr(words[0]) if re.fullmatch(r"[\w./\\ -]{0,40}", words[0]) else "like the first word"
        raise ArgumentsError(f"there is no command {shown}" + (f"; did you mean {near[0]}?" if near else ""))
    try:
        arguments, unknown = parser.parse_known_args(words)
    except ArgumentsError as error:
        if "are required" not in str(error):
            raise
        _, unknown = parser.parse_known_args(words if command == "run" else [*words, "x"])
        if not unknown or unknown == ["x"]:
            raise
    if unknown:
        shown = _without_values(words, unknown) if command in ("run", "attach") else " ".join(unknown)
        raise ArgumentsError(
            _MISSING_FLAG if command == "run" and _lacks_flag(words, unknown) else f"unrecognized arguments: {shown}"
        )
    wrong = wrong_batch_flags(arguments) if command == "run" else ""
    if wrong:
        raise ArgumentsError(wrong)
    if command == "inspect" and not (arguments.workflow or arguments.save_object_info):
        raise ArgumentsError("the following arguments are required: WORKFLOW")
    arguments.command = command
    return arguments


_MISSING_FLAG = "--workflow is missing before the workflow's file: comfyreport --workflow FILE"


def _lacks_flag(words: Sequence[str], unknown: Sequence[str]) -> bool:
    """Whether one of the *unknown* words is most likely the workflow's file, with no `--workflow` before it."""
    named = any(word.partition("=")[0] == "--workflow" for word in words)
    return not named and any(word.lower().endswith(".json") or os.path.isfile(word) for word in unknown)


def _without_values(words: Sequence[str], unknown: Sequence[str]) -> str:
    """*unknown* without values, which may be secret: flags by name, other words by the flag before them."""
    shown, last, left = list[str](), "", list(unknown)
    for word in words:
        option = re.match(r"--[a-z]+(-[a-z]+)*(?=$|=)|-[A-Za-z]", word)
        last = option[0] if option else last
        if word in left:
            left.remove(word)
            shown += [option[0]] if option else [] if last in shown else [f"what stands behind {last or 'the first'}"]
    return ", ".join(dict.fromkeys(shown))


def build_parser(command: str = "run") -> argparse.ArgumentParser:
    """The parser of *command*; it raises ArgumentsError."""
    if command == "run":
        parser = Parser(
            prog="comfyreport",
            usage="comfyreport [run] --workflow FILE [options]",
            description=_DESCRIPTIONS[command],
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.add_argument("--version", action="version", version=f"comfyreport {__version__}")
    else:
        parser = Parser(prog=f"comfyreport {command}", description=_DESCRIPTIONS[command], allow_abbrev=False)
    if command in ("run", "attach"):
        _add_run_flags(parser, attach=command == "attach")
        _add_server_flags(parser, attach=command == "attach")
        _add_time_flags(parser)
        if command == "run":
            add_batch_flags(parser)
        _add_reporting_flags(parser)
    elif command == "replay":
        parser.add_argument(
            "recording",
            type=values.path,
            metavar="RECORDING",
            help="a file that --record wrote, or one of those that comfyreport has, such as txt2img",
        )
        parser.add_argument(
            "--speed",
            type=values.not_negative,
            default=1.0,
            metavar="X",
            help="times the recorded pace; 0: at once (default 1)",
        )
        _add_reporting_flags(parser)
    elif command == "inspect":
        parser.add_argument(
            "workflow", type=values.path, nargs="?", metavar="WORKFLOW", help="the workflow's file; - for stdin"
        )
        parser.add_argument("--json", action="store_true", help="as JSON")
        parser.add_argument(
            "--save-object-info",
            type=values.path,
            metavar="FILE",
            help="keep what the server declares of its node classes, for 'comfyreport convert --object-info FILE'",
        )
        _add_server_flags(parser, attach=True)
    elif command == "convert":
        parser.add_argument("workflow", type=values.path, metavar="FILE", help="what the editor saved; - for stdin")
        parser.add_argument(
            "-o", "--output", type=values.path, metavar="OUT", help="write it into this file (default: stdout)"
        )
        parser.add_argument(
            "--object-info",
            type=values.path,
            metavar="FILE",
            help="ask no server: this is what one declares, as 'comfyreport inspect --save-object-info' saves it",
        )
        _add_server_flags(parser, attach=True)
    elif command == "reporters":
        parser.add_argument("name", nargs="?", metavar="NAME", help="tell everything about this one")
        parser.add_argument("--json", action="store_true", help="as JSON")
    elif command == "timings":
        parser.add_argument("--clear", action="store_true", help="forget all of it")
        parser.add_argument("--json", action="store_true", help="as JSON")
    elif command == "simulate":
        parser.add_argument(
            "--port", type=values.port, default=8188, metavar="N", help="port (default 8188; 0: any free one)"
        )
        parser.add_argument(
            "--speed", type=values.positive, default=1.0, metavar="X", help="times the usual pace (default 1)"
        )
        parser.add_argument(
            "--strict",
            action="store_true",
            help="have only ComfyUI's own node classes, and the models of the workflows that come with comfyreport",
        )
    return parser


def _add_run_flags(parser: argparse.ArgumentParser, *, attach: bool) -> None:
    group = parser.add_argument_group("the run")
    if attach:
        group.add_argument(
            "prompt_id", type=values.prompt_id, metavar="PROMPT_ID", help="the prompt's id, as run_queued tells it"
        )
        group.add_argument(
            "--take-over",
            action="store_true",
            help="follow under the submitter's client id, with live progress; its browser tab then goes quiet",
        )
    else:
        group.add_argument(
            "--workflow",
            action=Several,
            type=values.path,
            metavar="FILE",
            help="the workflow, as ComfyUI saves or exports it, or a picture, video or sound that it made; - for stdin",
        )
        group.add_argument(
            "--dry-run", action="store_true", help="print what would be submitted, as JSON, and submit nothing"
        )
        add_input_flags(parser)
    group.add_argument(
        "--output",
        type=values.path,
        metavar="PATH",
        help="a file, a folder, or a template such as 'made/{run}-{node}-{index}.{ext}' for what is made "
        "(default: its URL is printed)",
    )
    group.add_argument("--overwrite", action="store_true", help="replace files that are there, whatever their names")
    group.add_argument("--include-temp", action="store_true", help="temporary outputs, such as previews, are results")
    group.add_argument("--sidecar", action="store_true", help="write NAME.json beside each file: what made it, and how")
    group.add_argument(
        "--expect-outputs", type=values.count, default=0, metavar="N", help="fewer files than N are no success (exit 8)"
    )
    group.add_argument(
        "--on-interrupt",
        choices=("cancel", "detach"),
        default="cancel",
        help="what Ctrl-C, SIGTERM or SIGHUP does: cancel this prompt (default), or leave it running",
    )
    group.add_argument(
        "--record", type=values.path, metavar="FILE", help="keep what crosses the wire, for 'comfyreport replay'"
    )
    group.add_argument(
        "--no-learn",
        action="store_true",
        help="neither use nor keep how long nodes took (also: COMFYREPORT_NO_LEARN=1)",
    )


def _add_server_flags(parser: argparse.ArgumentParser, *, attach: bool) -> None:
    group = parser.add_argument_group("the server")
    simulated = "" if attach else "; sim: a simulated one"
    group.add_argument(
        "--server",
        action="store" if attach else Several,
        metavar="URL",
        default="",
        help=f"where ComfyUI is (default: COMFYREPORT_SERVER, else http://127.0.0.1:8188){simulated}",
    )
    group.add_argument(
        "--header",
        type=values.header,
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="a header for every request; @FILE reads them from a file. COMFYREPORT_TOKEN holds a bearer token",
    )
    if not attach:
        group.add_argument(
            "--extra-data",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="extra data for API nodes, such as keys",
        )
    group.add_argument("--cacert", type=values.path, metavar="FILE", help="trust this certificate authority")
    group.add_argument(
        "--client-cert", type=values.paths, metavar="FILE[,KEY]", help="this client's own certificate, in PEM form"
    )
    group.add_argument("--insecure", action="store_true", help="don't check the server's certificate")
    group.add_argument(
        "--ping-interval",
        type=values.not_negative,
        metavar="S",
        help="seconds between pings that keep proxies from closing the connection (default 20, none on loopback)",
    )


def _add_time_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("time, in seconds")
    group.add_argument("--timeout", type=values.positive, metavar="S", help="limit for the whole run (default: none)")
    group.add_argument(
        "--max-eta",
        type=values.positive,
        metavar="S",
        help="cancel early what, judging by earlier runs, won't be done S seconds after the start",
    )
    group.add_argument(
        "--wait-for-server", type=values.positive, metavar="S", help="wait so long for the server to come up"
    )
    group.add_argument(
        "--stall-warn", type=values.positive, metavar="S", help="warn after so much silence (default 30)"
    )
    group.add_argument(
        "--lost-after",
        type=values.positive,
        metavar="S",
        help="give up after so long without any answer (default 60; 15 where loopback refuses)",
    )


def _add_reporting_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that select reporters."""
    group = parser.add_argument_group("reporting")
    group.add_argument(
        "--reporter",
        action="append",
        default=[],
        metavar="NAME[=DEST][,OPTION=VALUE]...",
        help="a reporter; may be given several times (default: COMFYREPORT_REPORTER, else console). "
        "+NAME adds one to the default. DEST is a path, - for stdout, or stderr",
    )
    group.add_argument("--quiet", action="store_true", help="errors only: --reporter quiet")
    group.add_argument("--json-progress", action="store_true", help="JSON lines on stdout: --reporter jsonl")
    group.add_argument(
        "-p", action="append", default=[], dest="plugins", metavar="NAME", help="load a plugin; no:NAME blocks one"
    )
    group.add_argument("--color", choices=COLORS, default="auto", help="when to colour")


def parse_reporting(words: Sequence[str]) -> argparse.Namespace:
    """The reporters that *words* select, and the files that they name, whatever else is wrong with them."""
    lenient = Parser(allow_abbrev=False, add_help=False)
    lenient.add_argument("recording", type=values.path, nargs="?")
    lenient.add_argument("--workflow", action=Several, type=values.path, nargs="?")
    for flag in ("--output", "--record", "--cacert", "--prompt-file"):
        lenient.add_argument(flag, type=values.path, nargs="?")
    for flag, name in PATH_FLAGS.items():
        lenient.add_argument(flag, type=values.path, nargs="?", dest=name)
    for flag in FILE_FLAGS:
        lenient.add_argument(f"--{flag}", action="append", nargs="?", default=[])
    lenient.add_argument("--client-cert", type=values.paths, nargs="?")
    lenient.add_argument("--header", type=values.header, action="append", nargs="?", default=[])
    lenient.add_argument("--reporter", action="append", nargs="?", default=[])
    lenient.add_argument("-p", action="append", nargs="?", default=[], dest="plugins")
    lenient.add_argument("--quiet", action="store_true")
    lenient.add_argument("--json-progress", action="store_true")
    lenient.add_argument("--color", nargs="?")
    try:
        arguments, _ = lenient.parse_known_args(words)
    except ArgumentsError:
        arguments = lenient.parse_args([])
    arguments.reporter = [spec for spec in arguments.reporter if spec is not None]
    arguments.plugins = [name for name in arguments.plugins if name is not None]
    arguments.header = [value for value in arguments.header if value is not None]
    arguments.color = arguments.color if arguments.color in COLORS else "auto"
    return arguments
