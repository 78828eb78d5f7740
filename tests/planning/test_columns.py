"""What may differ from run to run: names, and what their values are."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport.planning.columns import AXES, COLUMNS, named, nearest, parsed


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("prompt", "prompt"),
        (" Prompt ", "prompt"),
        ("3.steps", "3.steps"),
        (" My Node.text ", "My Node.text"),
        ("A.b.c", "A.b.c"),
        ("promt", None),
        (".steps", None),
        ("3.", None),
        ("", None),
    ],
)
def test_names(text: str, name: str | None) -> None:
    assert named(text, COLUMNS) == name


def test_a_grid_has_neither_outputs_nor_workflows() -> None:
    assert {*COLUMNS} - {*AXES} == {"output", "workflow"}
    assert named("output", AXES) is None


def test_the_nearest_names() -> None:
    assert nearest("Promt", COLUMNS) == "near is prompt"
    assert nearest("zzz", AXES).startswith("there are prompt, negative, ")


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("prompt", " a jar ", " a jar "),
        ("seed", " 7 ", 7),
        ("seed", 2**64 - 1, 2**64 - 1),
        ("seed", "random", "random"),
        ("steps", "20", 20),
        ("steps", 20, 20),
        ("size", "64x32", (64, 32)),
        ("size", [64, 32], (64, 32)),
        ("model", " a.safetensors ", "a.safetensors"),
        ("image", "10=a.png", "10=a.png"),
        ("3.cfg", 7.5, 7.5),
        ("3.cfg", ["4", 0], ["4", 0]),
        ("6.text", " as it is ", " as it is "),
    ],
)
def test_values(name: str, value: Any, found: Any) -> None:
    assert parsed(name, value) == found


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("prompt", 5, "5 is no text"),
        ("seed", -1, "'-1' is no seed: give a whole number from 0 to 2^64-1, random or keep"),
        ("seed", 2**64, f"'{2**64}' is no seed: give a whole number from 0 to 2^64-1, random or keep"),
        ("steps", "x", "'x' is no whole number from 1"),
        ("steps", 20.0, "'20.0' is no whole number from 1"),
        ("steps", True, "True is no text"),
        ("size", [64], "[64] is no text"),
        ("size", "64", "'64' is no size: give width and height in pixels, such as 1024x768"),
        ("batch", 0, "'0' is no whole number from 1"),
        ("image", " ", "it is empty"),
        ("output", {"a": 1}, "{'a': 1} is no text"),
        ("seed", "9" * 100, f"'{'9' * 59}…' is too long"),
    ],
)
def test_what_is_no_value(name: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the message is compared
        parsed(name, value)
    assert str(caught.value) == words


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("USERPROFILE", "/home/me")
    assert parsed("output", "~/made") == "/home/me/made"
    assert parsed("workflow", "~/w.json") == "/home/me/w.json"
