"""Names from templates: what is asked for, and nothing that a server sends leads out of the folder."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, strategies as st

from comfyreport.errors import UsageError
from comfyreport.events import NodeRef, Output
from comfyreport.saving.template import FIELDS, read_output

RUN = {"prompt_id": "p-1", "seed": 5, "date": "2026-03-31"}


def output(filename: str = "a_00001_.png", title: str = "My Save", node: str = "9", index: int = 2) -> Output:
    ref = NodeRef(id=node, class_type="SaveImage", title=title)
    return Output(node=ref, index=index, kind="image", filename=filename)


def names(text: str, made: Output | None = None, **fields: object) -> tuple[str, list[str]]:
    """The folder above the fields, and the names below it."""
    path, template = read_output(text)
    assert template is not None
    return path, template.names(made or output(), {**RUN, **fields})


@pytest.mark.parametrize(
    ("text", "folder", "below"),
    [
        ("out/{seed}/{node}-{index}.{ext}", "out/", ["5", "9-2.png"]),
        ("{title}.png", f".{os.sep}", ["My Save.png"]),
        ("/x/{filename}.{ext}", "/x/", ["a_00001_.png"]),
        ("/{date}/{prompt_id}.jpg", "/", ["2026-03-31", "p-1.jpg"]),
        ("a/{filename}", "a/", ["a_00001_.png"]),
        ("a/{node}_{filename}", "a/", ["9_a_00001_.png"]),
        ("a/v1.5-{index:03}", "a/", ["v1.5-002.png"]),
        ("a/{seed}/", "a/", ["5", "a_00001_.png"]),
        ("a//{seed}//b{index}.webp", "a//", ["5", "b2.webp"]),
        ("a/{{{node}}}.{ext}", "a/", ["{9}.png"]),
    ],
)
def test_names(text: str, folder: str, below: list[str]) -> None:
    assert names(text) == (folder, below)


def test_doubled_braces_alone_are_a_path() -> None:
    assert read_output("a{{b}}/c.png") == ("a{b}/c.png", None)
    assert read_output("a/b.png") == ("a/b.png", None)


@pytest.mark.parametrize("text", ["{sed}.png", "{}.png", "{node.id}", "{node[0]}", "{0}", "x/{Seed}/y"])
def test_an_unknown_field_lists_those_that_there_are(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_output(text)
    assert all(f"{{{name}}}" in raised.value.hint for name in FIELDS)


@pytest.mark.parametrize(
    "text", ["{", "}", "a{seed", "{seed!r}", "{title:5}", "{index:>5}", "{index:0999}", "{index:x}"]
)
def test_what_cant_be_understood_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        read_output(text)


def test_the_number_of_the_run() -> None:
    assert names("{run:03}-{index}", run=12)[1] == ["012-2.png"]
    assert names("{run}", run=None)[1] == names("{run}")[1] == ["1.png"]


def test_an_outline_names_what_is_not_known() -> None:
    template = read_output("a/{run:03}/{seed:05}-{title}-{index:02}.{ext}").template
    assert template is not None
    assert template.outline({"run": 7, "seed": None}) == "007/none-{title}-{index}.{ext}"
    assert template.has_field("node", "seed")
    assert not template.has_field("node", "prompt_id")


def test_a_run_without_a_seed() -> None:
    assert names("{seed}-{index}", seed=None)[1] == ["none-2.png"]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("../../etc/passwd", "_.._etc_passwd.png"),
        ("/abs", "_abs.png"),
        ("..", "output.png"),
        ("NUL", "_NUL.png"),
        ("a:b\x1b\n", "a_b__.png"),
        ("x" * 3000, "x" * 100 + ".png"),
    ],
)
def test_values_lead_nowhere_else(value: str, name: str) -> None:
    found = names("{title}.{ext}", output(title=value))[1]
    assert found == [name] or (value == ".." and found == ["png"])


@given(st.sampled_from(FIELDS), st.text(), st.text())
def test_any_value_is_one_plain_name(field: str, title: str, filename: str) -> None:
    made = output(filename=filename, title=title, node=title)
    for name in names(f"{{{field}}}/{{{field}}}", made, prompt_id=title)[1]:
        assert name == os.path.basename(name)
        assert name.strip(" .") == name != ""
        assert len(name.encode()) <= 200
