"""The author's guide names all that an author meets: each hook with its arguments, all fields, all recordings."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest

import comfyreport
from comfyreport import events as ev
from comfyreport.events import NodeView, RunView
from comfyreport.reporting import hookspecs
from comfyreport.reporting.validation import HOOKS
from comfyreport.testing import recordings
from tests.docs.pages import BY_NAME, README

PAGE = BY_NAME["plugins/README.md"]
GUIDE = PAGE.text


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_each_hook_is_named_with_its_arguments(hook: str) -> None:
    arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    assert re.search(rf"^\| `{hook}` \| {arguments} ?\|", GUIDE, re.MULTILINE)


def test_no_other_hook_is_named() -> None:
    modules = {f"comfyreport_{name}" for name in ("bell", "gantt", "meter", "notify", "timings", "NAME")}
    modules |= {f"comfyreport_{name}" for name in ("play", "conforms", "stream", "recording")}
    assert set(re.findall(r"comfyreport_\w+", re.sub(r"comfyreport_bell-[\w.-]+", "", GUIDE))) <= HOOKS | modules | {
        "comfyreport_"
    }


def test_all_that_a_run_tells_is_named() -> None:
    for kind, made in ((RunView, RunView()), (NodeView, NodeView(comfyreport.NodeRef(id="1")))):
        names = {name for name in dir(made) if not name.startswith("_") and not callable(getattr(made, name))}
        assert names, kind
        assert [name for name in sorted(names) if f"`{name}`" not in GUIDE] == []


def test_the_fields_are_those_of_the_classes() -> None:
    common = {field.name for field in dataclasses.fields(ev.Event)}
    shared = {field.name for field in dataclasses.fields(ev.ProgressEvent)} - common
    told = dict(re.findall(r"^\| `([A-Z]\w+)` \| (.*) \|$", GUIDE, re.MULTILINE))
    for cls in (*ev.EVENT_CLASSES, ev.NodeRef, ev.Output, ev.ErrorInfo, ev.NodeError, ev.NodeTime, ev.InputValue):
        own = {field.name for field in dataclasses.fields(cls)}
        cells = [] if told[cls.__name__] == "none" else told[cls.__name__].split(", ")
        assert ("P" in cells) == issubclass(cls, ev.ProgressEvent)
        own -= (common | shared | {"type"}) if issubclass(cls, ev.Event) else set()
        assert {cell.strip("`") for cell in cells} - {"P"} == own, cls


def test_all_shipped_recordings_are_named() -> None:
    assert [name for name in recordings() if f"`{name}`" not in GUIDE] == []


def test_the_first_reporter_has_fifteen_lines() -> None:
    first = next(block for block in PAGE.blocks if block.language == "python")
    assert sum(1 for line in first.text.splitlines() if line) <= 15


def test_the_reporter_of_the_readme_has_no_more() -> None:
    (code,) = (block.text for block in README.blocks if block.file.endswith(".py"))
    assert len(code.splitlines()) <= 15
