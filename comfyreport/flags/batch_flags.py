"""The flags that make many runs of one command, and what they ask for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from comfyreport.flags import values

if TYPE_CHECKING:
    from comfyreport.planning.plan import Wanted

PATH_FLAGS = {"--prompts": "prompts", "--servers": "servers_file", "--state": "state", "--manifest": "manifest"}
"""The flags that name files, with their values' names."""

_DEFAULTS: dict[str, Any] = {
    "repeat": 1,
    "grid": [],
    "prompts": None,
    "servers_file": None,
    "keep_going": False,
    "retries": 2,
    "state": None,
    "manifest": None,
    "only": None,
    "engine": None,
}
"""What the flags are where they aren't given, by their values' names."""


class Several(argparse.Action):
    """A flag that may be given several times: *dest* is the first value, and its plural all of them, as a tuple."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Keep one more value."""
        if values is not None:
            every = (*getattr(namespace, f"{self.dest}s", ()), values)
            setattr(namespace, f"{self.dest}s", every)
            setattr(namespace, self.dest, every[0])


def add_batch_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags for many runs."""
    parser.set_defaults(workflows=(), servers=())
    group = parser.add_argument_group("many runs (--workflow and --server may be given several times, too)")
    group.add_argument(
        "--repeat",
        type=values.at_least_one,
        default=1,
        metavar="N",
        help="make each run N times, with seeds from its own on",
    )
    group.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="NAME=A,B,...",
        help="a run for each value, and for each combination where it is given several times; NAME is NODE.INPUT or a "
        "short name such as prompt, seed or model; 1..20 counts, 5.0..8.0..0.5 in steps, and quotes hold commas",
    )
    group.add_argument(
        "--prompts",
        type=values.path,
        metavar="FILE",
        help="a run for each line: of text, of CSV whose header names what the columns set, or of JSON objects; - for "
        "stdin",
    )
    group.add_argument("--servers", type=values.path, dest="servers_file", metavar="FILE", help="servers, one a line")
    group.add_argument(
        "--keep-going", action="store_true", help="go on where a run fails (default: stop, and cancel what is queued)"
    )
    group.add_argument(
        "--retries",
        type=values.count,
        default=2,
        metavar="N",
        help="give a run that was lost to a server at most N times again (default 2)",
    )
    group.add_argument(
        "--state", type=values.path, metavar="FILE", help="keep there what is done; the same command goes on from it"
    )
    group.add_argument(
        "--manifest", type=values.path, metavar="FILE", help="write a JSON object a run into this file, as it ends"
    )
    group.add_argument("--only", choices=("failed",), help="of the runs in --state FILE, make those that failed again")
    group.add_argument(
        "--engine", type=values.engine, metavar="dask://HOST:PORT", help="let the workers of a Dask cluster make them"
    )


def wants_many(arguments: argparse.Namespace) -> bool:
    """Whether the flags of `run` ask for more than one run on one server, or for what only many runs have."""
    several = any(len(getattr(arguments, name, ())) > 1 for name in ("workflows", "servers"))
    return several or any(getattr(arguments, name, default) != default for name, default in _DEFAULTS.items())


def wrong_batch_flags(arguments: argparse.Namespace) -> str:
    """What is wrong with the flags together, in words; empty where nothing is."""
    if not arguments.workflows and arguments.prompts is None:
        return "the following arguments are required: --workflow"
    if arguments.only and not arguments.state:
        return "--only needs --state FILE, which knows what failed"
    if arguments.engine is not None and (len(arguments.servers) > 1 or arguments.servers_file is not None):
        return "--engine has servers of its own: each worker's environment names one (COMFYREPORT_SERVER)"
    if arguments.state == "-":
        return "--state - is no file: name one that the next command can go on from"
    return ""


def wanted_of(arguments: argparse.Namespace) -> Wanted:
    """The runs that the flags ask for."""
    from comfyreport.flags.input_flags import given_files, settings_of
    from comfyreport.planning.plan import Wanted

    return Wanted(
        workflows=arguments.workflows,
        settings=settings_of(arguments),
        files=given_files(arguments),
        output=arguments.output,
        repeat=arguments.repeat,
        grid=tuple(arguments.grid),
        prompts=arguments.prompts,
    )


def check_flags(arguments: argparse.Namespace, runs: int) -> None:
    """UsageError where a flag is for one run alone, and there are more."""
    from comfyreport.errors import UsageError

    if runs > 1 and arguments.record is not None:
        raise UsageError(
            f"--record keeps what crosses the wire in one run, and there are {runs:,}",
            hint="leave it out, or make that one run by itself",
        )
