"""The flags that change what goes into a workflow, and what they ask for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from comfyreport.flags import values

if TYPE_CHECKING:
    from comfyreport.inputs.local_files import Given
    from comfyreport.workflow.settings import Settings

FILE_FLAGS = {
    "image": "the node that loads a picture: its id, title or class, which may be left out where there is one",
    "mask": "a node that loads a mask",
    "video": "a node that loads a video",
    "audio": "a node that loads a sound",
}


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
    prompts.add_argument(
        "--prompt-file", type=values.path, metavar="FILE", help="read the prompt from there; - for stdin"
    )
    group.add_argument("--negative", metavar="TEXT", help="the text of the negative prompt")
    group.add_argument(
        "--seed",
        type=values.seed,
        metavar="N",
        help="the seed of all samplers; random: a new one; keep: as in the file",
    )
    group.add_argument("--steps", type=values.at_least_one, metavar="N", help="steps of the samplers")
    group.add_argument("--size", type=values.size, metavar="WxH", help="width and height in pixels, such as 1024x768")
    group.add_argument("--batch", type=values.at_least_one, metavar="N", help="how many at once")
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
    texts = [assignment.partition("=")[2] for assignment in getattr(arguments, "assignments", ())]
    files = [value[1:] for value in texts if value.startswith("@") and not value.startswith("@@")]
    files += [getattr(arguments, "prompt_file", None) or ""]
    grids: tuple[str, ...] = getattr(arguments, "grid", ())
    if grids:
        from comfyreport.planning.grids import grid_files

        files += [path for text in grids for path in grid_files(text)]
    return [
        ("--set, --prompt-file, --grid" if grids else "--set, --prompt-file", path)
        for path in dict.fromkeys(files)
        if path
    ]
