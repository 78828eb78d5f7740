"""What the user sets: which node is meant, as which type a value is taken, and what is refused in which words."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport.errors import UsageError
from comfyreport.workflow.graph import Target
from comfyreport.workflow.settings import Setting, Settings, apply, find_settings

GRAPH: dict[str, dict[str, Any]] = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 1, "cfg": 7.5, "positive": ["6", 0], "model": ["4", 0]}},
    "4": {"class_type": "Loader", "inputs": {"name": "a.safetensors", "shape": [1, 2, 3]}, "_meta": {"title": "Main"}},
    "6": {"class_type": "Text", "inputs": {"text": "a cat", "on": True}, "_meta": {"title": "Prompt"}},
    "9:1": {"class_type": "Text", "inputs": {"text": "b", "a.b": 1, "extra": None}, "_meta": {"title": "v1.5 text"}},
}


def settings(*assignments: str, files: dict[str, str] | None = None, **names: Any) -> dict[Target, Any]:
    wanted = Settings(assignments=assignments, **names)
    found = find_settings(GRAPH, wanted, (files or {}).__getitem__)
    return {target: setting.value for target, setting in found.items()}


def refusal(*assignments: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        settings(*assignments)
    return caught.value


@pytest.mark.parametrize(
    ("assignment", "node", "name", "value"),
    [
        ("3.seed=5", "3", "seed", 5),
        ("3.seed=0.5", "3", "seed", 0.5),  # JavaScript writes 1.0 as 1: the server says whether it must be whole
        ("3.cfg=4", "3", "cfg", 4),
        ("3.cfg=1e1", "3", "cfg", 10.0),
        ("KSampler.cfg=4", "3", "cfg", 4),
        ("ksampler.cfg=4", "3", "cfg", 4),
        ("Main.name=b", "4", "name", "b"),
        ("Prompt.text=5", "6", "text", "5"),
        ("Prompt.text=", "6", "text", ""),
        ("Prompt.text=a=b", "6", "text", "a=b"),
        ("Prompt.text=@@home", "6", "text", "@home"),
        ('Prompt.text=["4", 0]', "6", "text", ["4", 0]),
        ('Prompt.text="quoted"', "6", "text", '"quoted"'),
        ("6.on=false", "6", "on", False),
        ("6.on=Yes", "6", "on", True),
        ("3.positive=text", "3", "positive", "text"),
        ("3.model=7", "3", "model", 7),
        ("4.shape=[4]", "4", "shape", [4]),
        ("9:1.a.b=3", "9:1", "a.b", 3),
        ("v1.5 text.text=c", "9:1", "text", "c"),
        ("9:1.extra=true", "9:1", "extra", True),
    ],
)
def test_a_value_becomes_what_stands_there(assignment: str, node: str, name: str, value: object) -> None:
    found = settings(assignment)
    assert found == {Target(node, name): value}
    assert type(found[Target(node, name)]) is type(value)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("3", "'3' isn't NODE.INPUT=VALUE"),
        ("3.seed", "'3.seed' isn't NODE.INPUT=VALUE"),
        ("seed=5", "'seed' isn't NODE.INPUT=VALUE"),
        ("5.seed=5", "no node '5'"),
        ("KSampelr.seed=5", "no node 'KSampelr'; near is KSampler"),
        ("Text.text=c", 'could mean several nodes:\n  6 (Text "Prompt")\n  9:1 (Text "v1.5 text")'),
        ("3.seed=five", "3.seed takes a number (there stands 1), not 'five'"),
        ("3.seed=true", "3.seed takes a number"),
        ("3.cfg=NaN", "3.cfg takes a number"),
        ("3.seed=1e999", "3.seed takes a number"),
        ("3.cfg=", "3.cfg takes a number (there stands 7.5), not ''"),
        ("6.on=maybe", "6.on takes true or false"),
        ("4.shape=x", "4.shape takes JSON"),
        ('6.text=["77", 0]', "6.text links to node 77, which the workflow doesn't have"),
        ("5\x1b[31m\n.x=1", "no node"),
    ],
)
def test_what_is_refused(assignment: str, words: str) -> None:
    error = refusal(assignment)
    assert words in error.message
    assert error.hint
    assert "\x1b" not in error.message


def test_an_id_may_hold_an_equals_sign() -> None:
    graph = {"x=y": GRAPH["3"], "z": GRAPH["6"]}
    found = find_settings(graph, Settings(assignments=("x=y.seed=5", "z.text=x=y.seed")), str)
    assert {target: setting.value for target, setting in found.items()} == {
        Target("x=y", "seed"): 5,
        Target("z", "text"): "x=y.seed",
    }


def test_a_file_is_read_and_a_later_assignment_wins() -> None:
    files = {"p.txt": "a dog\nin the sun", "n": "12"}
    assert settings("6.text=@p.txt", files=files) == {Target("6", "text"): "a dog\nin the sun"}
    assert settings("3.seed=@n", "3.seed=4", files=files) == {Target("3", "seed"): 4}


def test_an_assignment_beats_a_short_name() -> None:
    assert settings("3.seed=4", seed=9, prompt="a dog") == {Target("3", "seed"): 4, Target("6", "text"): "a dog"}
    assert settings(seed="keep") == {}


def test_values_from_python_keep_their_type() -> None:
    found = settings(inputs={"3.seed": 5, "6.text": "x", "4.shape": {"a": 1}, "KSampler.cfg": "3"})
    assert found == {
        Target("3", "seed"): 5,
        Target("6", "text"): "x",
        Target("4", "shape"): {"a": 1},
        Target("3", "cfg"): 3,
    }


def test_an_input_that_is_not_there_is_marked() -> None:
    found = find_settings(GRAPH, Settings(assignments=("3.denoise=0.5",)), str)
    assert found == {Target("3", "denoise"): Setting(0.5, "0.5", known=False)}


def test_setting_leaves_the_graph_as_it_was() -> None:
    changed = apply(GRAPH, {Target("3", "seed"): Setting(2)})
    assert changed["3"]["inputs"]["seed"] == 2
    assert GRAPH["3"]["inputs"]["seed"] == 1
    assert {key: value for key, value in changed.items() if key != "3"} == {
        key: value for key, value in GRAPH.items() if key != "3"
    }
