"""What stands around a workflow in a file: submitted with it, or named."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from comfyreport.errors import WorkflowError
from comfyreport.workflow.files import from_mapping, load
from comfyreport.workflow.graph import Target
from comfyreport.workflow.settings import Setting
from comfyreport.workflow.wrapping import Wrapping

NODE = {"class_type": "EmptyImage", "inputs": {}}
EDITOR = {"nodes": [], "links": [], "version": 0.4}


def body(content: Any, **extra_data: Any) -> Any:
    return from_mapping(content).body(extra_data)


def test_a_whole_body_is_submitted_with_all_that_a_server_reads() -> None:
    options = {"front": True, "number": -3.5, "partial_execution_targets": ["1"]}
    content = {"prompt": {"1": NODE}, "extra_data": {"k": {"l": [1]}}, **options}
    assert body(content) == {"prompt": {"1": {**NODE, "_meta": {}}}, "extra_data": {"k": {"l": [1]}}, **options}
    assert from_mapping(content).wrapping.left_out == ()


def test_the_flags_beat_the_file() -> None:
    content = {"prompt": {"1": NODE}, "extra_data": {"a": "file", "b": "file"}}
    assert body(content, b="flag", c="flag")["extra_data"] == {"a": "file", "b": "flag", "c": "flag"}


def test_the_ids_of_a_body_are_not_those_of_the_run() -> None:
    content = {"prompt": {"1": NODE}, "client_id": "theirs", "prompt_id": "theirs"}
    assert set(body(content)) == {"prompt"}
    assert from_mapping(content).wrapping.left_out == ()


def test_what_no_server_reads_is_named() -> None:
    content = {"prompt": {"1": NODE}, "seed": 3, "front": "yes", "number": None, "extra": {}}
    assert from_mapping(content).wrapping.left_out == ("seed", "front", "extra")
    assert set(body(content)) == {"prompt"}


def test_what_the_editor_gives_is_taken_by_its_output_and_keeps_its_workflow() -> None:
    content = {"workflow": EDITOR, "output": {"1": NODE}}
    assert list(from_mapping(content).graph) == ["1"]
    assert body(content)["extra_data"] == {"extra_pnginfo": {"workflow": EDITOR}}
    with pytest.raises(WorkflowError, match="has no nodes"):
        from_mapping({"workflow": EDITOR, "output": {}})


def test_nodes_may_have_the_names_of_what_stands_around_them() -> None:
    content = {"output": NODE, "prompt": NODE, "workflow": NODE, "extra_data": NODE}
    assert list(from_mapping(content).graph) == list(content)
    assert from_mapping(content).wrapping == Wrapping()


@pytest.mark.parametrize("extra", [[], "x", 3, True])
def test_extra_data_that_no_server_could_take(extra: Any) -> None:
    with pytest.raises(WorkflowError, match="extra_data isn't an object"):
        from_mapping({"prompt": {"1": NODE}, "extra_data": extra})


def test_what_stands_around_is_made_fit_for_json() -> None:
    content = {"prompt": {"1": NODE}, "extra_data": {"a": math.nan, "\ud800": "\ud800"}, "number": math.inf}
    assert json.loads(json.dumps(body(content), allow_nan=False))["extra_data"] == {"a": None, "?": "?"}
    with pytest.raises(WorkflowError, match="isn't JSON"):
        from_mapping({"prompt": {"1": NODE}, "extra_data": {"a": {1, 2}}})


@pytest.mark.parametrize("meta", [None, [], "x", 3])
def test_each_node_is_sent_with_a_meta(meta: Any) -> None:
    node = {**NODE, "_meta": {"title": "T"}}
    workflow = from_mapping({"1": NODE, "2": {**NODE, "_meta": meta}, "3": node})
    sent = workflow.body({})["prompt"]
    assert [each["_meta"] for each in sent.values()] == [{}, {}, {"title": "T"}]
    assert "_meta" not in workflow.graph["1"], "the workflow itself stays as it is"


def test_a_prompt_keeps_what_stands_around() -> None:
    workflow = from_mapping({"prompt": {"1": NODE}, "extra_data": {"k": 1}})
    workflow = workflow.with_settings({Target("1", "width"): Setting(64)})
    assert workflow.body({})["extra_data"] == {"k": 1}


@pytest.mark.parametrize(("content", "wrong"), [(json.dumps({"1": NODE}), ""), ("", "stdin is empty"), ("{", "stdin")])
def test_stdin(tmp_path: Path, content: str, wrong: str) -> None:
    path = tmp_path / "w.json"
    path.write_text(content, encoding="utf-8")
    before = os.dup(0)
    with path.open("rb") as file:
        os.dup2(file.fileno(), 0)
    try:
        if wrong:
            with pytest.raises(WorkflowError, match=wrong):
                load("-")
        else:
            assert load("-") == load(path)
    finally:
        os.dup2(before, 0)
        os.close(before)
