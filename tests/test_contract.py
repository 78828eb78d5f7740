"""The contract with reporters and readers, compared with the committed one: additions are told, removals refused.

`COMFYREPORT_UPDATE_CONTRACT=1 python -m pytest tests/test_contract.py` writes what was added into the file; what it
holds already can't be changed in that way. A field, type, hook or code that goes needs a deprecation first, and another
major version, which is another file.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pluggy
import pytest

import comfyreport
from comfyreport import events as ev
from comfyreport.events import codes
from comfyreport.events.schema import json_schema
from comfyreport.reporting import hookspecs
from comfyreport.reporting.validation import HOOKS, Manager, register

PATH = Path(__file__).parent / "golden" / f"contract-{ev.SCHEMA.partition('.')[0]}.0.json"
UPDATE = "COMFYREPORT_UPDATE_CONTRACT"

Contract = dict[str, Any]


def current() -> Contract:
    """The contract as the code has it now."""
    definitions = json_schema()["$defs"]
    return {
        "hooks": {name: list(inspect.signature(getattr(hookspecs, name)).parameters) for name in sorted(HOOKS)},
        "events": {name: fields(schema) for name, schema in definitions.items()},
        "exit_codes": {**codes.EXIT_CODES, "reporter_failed": codes.EXIT_REPORTER_FAILED},
        "error_codes": sorted(codes.ERROR_CODES),
        "warning_codes": sorted(codes.WARNING_CODES),
        "names": sorted(comfyreport.__all__),
    }


def fields(schema: dict[str, Any]) -> dict[str, Any]:
    """Each field of an object with its form, without words; the lists of codes have entries of their own."""
    found = {}
    for name, form in schema["properties"].items():
        if form is False:
            continue
        kept = {key: value for key, value in form.items() if key not in ("description", "oneOf")}
        found[name] = {**kept, "required": name in schema["required"]}
    return found


def committed() -> Contract:
    found: Contract = json.loads(PATH.read_text(encoding="utf-8"))
    return found


def losses(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """What *old* has and *new* has not, or has in another form. A field may become one that is always there."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            place = f"{where}.{key}"
            if key not in new:
                yield f"{place} is gone"
            elif key == "required":
                if value and not new[key]:
                    yield f"{place}: it may be absent now"
            else:
                yield from losses(value, new[key], place)
    elif isinstance(old, list) and isinstance(new, list):
        yield from (f"{where}: {each} is gone" for each in old if each not in new)
    elif old != new:
        yield f"{where}: {old!r} is {new!r} now"


def test_nothing_that_was_promised_is_gone() -> None:
    assert list(losses(committed(), current())) == []


def test_what_is_new_is_written_down() -> None:
    if os.environ.get(UPDATE) == "1":
        PATH.write_text(json.dumps(current(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    assert current() == committed(), f"{UPDATE}=1 writes it down"


@pytest.mark.parametrize(
    ("change", "loss"),
    [
        (lambda new: new["hooks"].pop("comfyreport_tick"), ".hooks.comfyreport_tick is gone"),
        (lambda new: new["hooks"]["comfyreport_event"].remove("run"), ".hooks.comfyreport_event: run is gone"),
        (lambda new: new["events"]["node_progress"].pop("step"), ".events.node_progress.step is gone"),
        (lambda new: new["events"]["warning"]["code"].update(type="integer"), ".events.warning.code.type: 'string' is"),
        (lambda new: new["events"]["warning"]["code"].update(required=False), "it may be absent now"),
        (lambda new: new["exit_codes"].update(lost=7), ".exit_codes.lost: 6 is 7 now"),
        (lambda new: new["error_codes"].remove("tls"), ".error_codes: tls is gone"),
    ],
)
def test_a_loss_is_seen(change: Callable[[Contract], object], loss: str) -> None:
    new = current()
    change(new)
    assert any(loss in each for each in losses(current(), new))


def test_an_addition_is_none() -> None:
    new = current()
    new["hooks"]["comfyreport_new"] = ["event"]
    new["hooks"]["comfyreport_close"].append("run")
    new["events"]["warning"]["more"] = {"type": "string", "required": False}
    new["error_codes"].append("another")
    assert list(losses(current(), new)) == []


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_each_hook_says_since_when(name: str) -> None:
    docs = inspect.getdoc(getattr(hookspecs, name)) or ""
    assert re.search(r"^\.\. versionadded:: \d+\.\d+$", docs, re.MULTILINE)


def test_an_argument_that_is_to_go_is_warned_of() -> None:
    class Specs:
        @hookspecs.hookspec(warn_on_impl_args={"old": DeprecationWarning("old will go, use event")})
        def comfyreport_tick(self, elapsed: float, old: object) -> None: ...

    class Reporter:
        @hookspecs.hookimpl
        def comfyreport_tick(self, old: object) -> None: ...

    class Old(Manager):
        def __init__(self) -> None:
            pluggy.PluginManager.__init__(self, hookspecs.PROJECT)
            self.add_hookspecs(Specs)

    with pytest.warns(DeprecationWarning, match="old will go, use event"):
        register(Old(), Reporter(), "reporter")


def test_type_checkers_see_each_public_name_as_it_is() -> None:
    (block,) = (node for node in ast.parse(inspect.getsource(comfyreport)).body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    seen = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom)
        module = importlib.import_module(statement.module or "")
        seen.update({alias.name: getattr(module, alias.name) for alias in statement.names})
    assert sorted([*seen, "__version__"]) == sorted(comfyreport.__all__)
    assert all(getattr(comfyreport, name) is value for name, value in seen.items())


def test_none_of_ours_is_to_go() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for module in ("console", "quiet", "jsonl", "filelog", "trace", "junit", "github", "webhook"):
            plugin = __import__(f"comfyreport_{module}")
            register(Manager(), plugin, module)
