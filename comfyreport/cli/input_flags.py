"""The flags that change what goes into a workflow, and what they ask for."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfyreport.inputs.local_files import Given
    from comfyreport.workflow.settings import Settings

FILE_FLAGS = {
    "image": "the node that loads a picture: its id, title or class, which may be left out where there is one",
    "mask": "a node that loads a mask",
    "video": "a node that loads a video",
    "audio": "a node that loads a sound",
}

_LARGEST_SEED = 2**64 - 1


def add_input_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags for what is set in the workflow."""
    group = parser.add_argument_group("what goes in")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="NODE.INPUT=VALUE",
        help="set an input; NODE is an id, or a title or class that one node has; @FILE reads the value from a file",
    )
    prompts = group.add_mutually_exclusive_group()
    prompts.add_argument("--prompt", metavar="TEXT", help="the text of the positive prompt")
    prompts.add_argument("--prompt-file", type=_path, metavar="FILE", help="read the prompt from there; - for stdin")
    group.add_argument("--negative", metavar="TEXT", help="the text of the negative prompt")
    group.add_argument(
        "--seed", type=_seed, metavar="N", help="the seed of all samplers; random: a new one; keep: as in the file"
    )
    group.add_argument("--steps", type=_at_least_one, metavar="N", help="steps of the samplers")
    group.add_argument("--size", type=_size, metavar="WxH", help="width and height in pixels, such as 1024x768")
    group.add_argument("--batch", type=_at_least_one, metavar="N", help="how many at once")
    group.add_argument("--model", metavar="NAME", help="the main model, as the server names its file")
    for kind, what in FILE_FLAGS.items():
        group.add_argument(
            f"--{kind}", action="append", default=[], metavar="[NODE=]FILE", help=f"upload this file for {what}"
        )


def settings_of(arguments: argparse.Namespace) -> Settings:
    """What the flags ask for."""
    from comfyreport.workflow.settings import Settings

    return Settings(
        assignments=tuple(arguments.assignments),
        prompt=arguments.prompt,
        prompt_file=arguments.prompt_file,
        negative=arguments.negative,
        seed=arguments.seed,
        steps=arguments.steps,
        size=arguments.size,
        batch=arguments.batch,
        model=arguments.model,
    )


def given_files(arguments: argparse.Namespace) -> tuple[Given, ...]:
    """The files for the workflow's loaders."""
    from comfyreport.inputs.local_files import KINDS, parse_given

    return tuple(parse_given(kind, text) for kind in KINDS for text in getattr(arguments, kind, ()) if text is not None)


def files_of(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    """The files that the flags read, each once, with what for."""
    values = [assignment.partition("=")[2] for assignment in getattr(arguments, "assignments", ())]
    files = [value[1:] for value in values if value.startswith("@") and not value.startswith("@@")]
    files += [getattr(arguments, "prompt_file", None) or ""]
    return [("--set, --prompt-file", path) for path in dict.fromkeys(files) if path]


def _path(text: str) -> str:
    # Not for those who only ask for help.
    from comfyreport.files import expanded

    return expanded(text)


def _seed(text: str) -> int | str:
    if text in ("random", "keep"):
        return text
    if not re.fullmatch(r"[0-9]{1,20}", text) or int(text) > _LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is no seed: give a whole number from 0 to 2^64-1, random or keep")
    return int(text)


def _at_least_one(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,9})[xX]([0-9]{1,9})", text)
    if match is None or 0 in (int(match[1]), int(match[2])):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: give width and height in pixels, such as 1024x768")
    return int(match[1]), int(match[2])
