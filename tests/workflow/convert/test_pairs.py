"""What the real front end made of real files, and what this makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from random import Random
from typing import Any

import pytest

from comfyreport.errors import WorkflowError
from comfyreport.workflow.convert import convert
from tests.workflow.convert.files import pairs, server

NAMES = sorted(pairs())


def declared(prompt: Mapping[str, Any]) -> dict[str, Any]:
    """Classes and inputs without titles and without what the server wouldn't read."""
    found = {}
    for node_id, node in prompt.items():
        groups = server().get(node["class_type"], {}).get("input", {})
        names = {name for group in ("required", "optional") for name in groups.get(group) or ()}
        inputs = {name: value for name, value in node["inputs"].items() if name in names or isinstance(value, list)}
        found[node_id] = (node["class_type"], inputs)
    return found


def outcome(name: str) -> str:
    pair = pairs()[name]
    try:
        prompt = convert(pair["ui"], server(), chance=Random(1), now=datetime(2026, 1, 2)).prompt
    except WorkflowError:
        return "refused"
    return "identical" if declared(prompt) == declared(pair["api"]) else "different"


def test_the_pairs_are_what_the_front_end_made(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = {name: outcome(name) for name in NAMES}
    counts = Counter(outcomes.values())
    with capsys.disabled():
        print("\npairs  identical  refused  different")
        print(f"{len(NAMES):5}  {counts['identical']:9}  {counts['refused']:7}  {counts['different']:9}")
    assert [name for name, each in outcomes.items() if each == "different"] == []
    assert counts["identical"] >= 0.97 * len(NAMES)


def test_titles_are_those_that_the_editor_shows() -> None:
    # The front end translates the names of two classes.
    translated = {"Scale Image to Total Pixels"}
    for name in NAMES:
        prompt = convert(pairs()[name]["ui"], server()).prompt
        for node_id, node in pairs()[name]["api"].items():
            title = node["_meta"]["title"]
            assert prompt[node_id]["_meta"]["title"] == title or title in translated


def test_neither_the_file_nor_what_the_server_declares_is_changed_or_shared() -> None:
    for name in NAMES[:40]:
        before = repr(pairs()[name]["ui"]), repr(server())
        prompt = convert(pairs()[name]["ui"], server()).prompt
        for node in prompt.values():
            for value in node["inputs"].values():
                if isinstance(value, (list, dict)):
                    value.clear()
        assert (repr(pairs()[name]["ui"]), repr(server())) == before
