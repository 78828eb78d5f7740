"""How files of the editor are converted, beside a library that does it too: `python -m tests.benchmarks.converting`.

The pairs are files and what ComfyUI's front end itself made of them. The library comfyui-autograph has its row where it
is installed: once as the tests' server is, without models, and once with all that the files name. A result that isn't
the front end's is *different*; one that there isn't is *refused*.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from comfyreport.errors import WorkflowError
from comfyreport.workflow.convert import convert
from tests.workflow.convert.files import pairs, server
from tests.workflow.convert.test_pairs import declared

Prompt = Mapping[str, Any]
Conversion = Callable[[Any], Prompt]


class RefusedError(Exception):
    """A conversion said that it can't be done."""


def ours(ui: Any) -> Prompt:
    """What comfyreport makes of a file."""
    try:
        return convert(ui, server(), chance=Random(1)).prompt
    except WorkflowError as error:
        raise RefusedError from error


def library(classes: Mapping[str, Any]) -> Conversion | None:
    """The library's conversion by the declarations of *classes*; None where it isn't installed."""
    try:
        autograph = importlib.import_module("autograph")
    except ImportError:
        return None

    def made(ui: Any) -> Prompt:
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                return json.loads(json.dumps(dict(autograph.convert(ui, node_info=copy.deepcopy(dict(classes))))))  # type: ignore[no-any-return]
        except Exception as error:
            raise RefusedError from error

    return made


def with_all_models() -> dict[str, Any]:
    """What the server would declare if it had each file that the pairs name."""
    classes = copy.deepcopy(dict(server()))
    for pair in pairs().values():
        for node in pair["api"].values():
            groups = classes.get(node["class_type"], {}).get("input", {})
            for group in ("required", "optional"):
                for name, value in node["inputs"].items():
                    _allow((groups.get(group) or {}).get(name), value)
    return classes


def _allow(spec: Any, value: object) -> None:
    if not isinstance(spec, list) or not isinstance(value, (str, int, float)):
        return
    options = spec[0] if isinstance(spec[0], list) else None
    if spec[0] == "COMBO":
        options = spec[1].setdefault("options", [])
    if options is not None and value not in options:
        options.append(value)


def count(made: Conversion) -> Counter[str]:
    """How many of the pairs are identical, refused and different."""
    outcomes: Counter[str] = Counter()
    for pair in pairs().values():
        try:
            prompt = made(copy.deepcopy(pair["ui"]))
        except RefusedError:
            outcomes["refused"] += 1
        else:
            outcomes["identical" if declared(prompt) == declared(pair["api"]) else "different"] += 1
    return outcomes


def main() -> None:
    """Print the table."""
    print(f"{'':34} pairs  identical  refused  different")
    rows: dict[str, Conversion | None] = {
        "comfyreport": ours,
        "comfyui-autograph, no models": library(server()),
        "comfyui-autograph, all models": library(with_all_models()),
    }
    for name, made in rows.items():
        if made is None:
            print(f"{name:34} isn't installed: pip install comfyui-autograph")
            continue
        found = count(made)
        print(
            f"{name:34} {len(pairs()):5}  {found['identical']:9}  {found['refused']:7}  {found['different']:9}",
        )


if __name__ == "__main__":
    main()
