"""What is replaced in texts: choices and comments in prompts, values and times in names of files."""

from __future__ import annotations

from datetime import datetime
from random import Random
from typing import Any

import pytest

from comfyreport.workflow.convert import convert
from comfyreport.workflow.convert.texts import as_javascript_has_it, as_text, dynamic_prompt
from tests.workflow.convert.files import File, server

NOW = datetime(2026, 3, 4, 5, 6, 7)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a /* b\nc */ d", "a  d"),
        ("a // b\nc", "a \nc"),
        ("see https://x", "see https:"),
        ("a {b}", "a b"),
        (r"\{a\|b\}", "{a|b}"),
        (r"{\{a\}}", "{a}"),
        (r"a \n b", r"a \n b"),
        ("a {b", "a b"),
        ("a }b", "a }b"),
        ("{{a}}", "a"),
        ("a\\", "a\\undefined"),
    ],
)
def test_prompts(text: str, wanted: str) -> None:
    assert dynamic_prompt(text, Random(1)) == wanted


def test_choices_are_made_by_the_chance_that_is_passed_in() -> None:
    texts = {dynamic_prompt("{a|b|{c|d}e}", Random(seed)) for seed in range(40)}
    assert texts == {"a", "b", "ce", "de"}
    assert dynamic_prompt("{a|b}" * 20, Random(5)) == dynamic_prompt("{a|b}" * 20, Random(5))


def test_only_inputs_that_ask_for_it_have_choices() -> None:
    file = File().node(1, "CLIPTextEncode", ["{a}"]).node(2, "SaveImage", ["{a}"])
    assert (file.inputs(1), file.inputs(2)) == ({"text": "a"}, {"filename_prefix": "{a}"})


def prefix(text: str, kind: str = "SaveImage") -> Any:
    file = File().node(1, kind, [text]).node(2, "EmptyLatentImage", [64, 32, 1], title="Size, small")
    sampler = [7, "fixed", 20, 1.5, "a/b:c", "normal", 1e-7]
    file.node(3, "KSampler", sampler, properties={"Node name for S&R": "Main"})
    return convert(file.content(), server(), now=NOW).prompt["1"]["inputs"]["filename_prefix"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("%EmptyLatentImage.width%", "64"),
        ("%Size, small.height%x", "32x"),
        ("%Main.cfg%_%Main.sampler_name%_%Main.denoise%", "1.5_a_b_c_1e-7"),
        ("%KSampler.cfg%", "1.5"),  # the title that it has without one of its own
        ("%Main.nothing%%Nobody.x%%width%", "%Main.nothing%%Nobody.x%%width%"),
        ("%date:yyyy-MM-dd%/%date:yy_h:mm:ss%", "2026-03-04/26_5:06:07"),
        ("%date:yyy%", "yyy"),
        ("100% sure", "100% sure"),
    ],
)
def test_names_of_files(text: str, wanted: str) -> None:
    assert prefix(text) == wanted


def test_only_classes_that_save_have_them_filled_in() -> None:
    assert prefix("%Main.cfg%", "SaveAnimatedWEBP") == "1.5"
    assert File().node(1, "PrimitiveString", ["%a.b%%date:yy%"]).inputs(1) == {"value": "%a.b%%date:yy%"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (True, "true"), (1.0, "1"), (-0.5, "-0.5"), (1e-6, "0.000001"), (1e-7, "1e-7"), (1e21, "1e+21"),
        (123456789012, "123456789012"), ([1, None, "a"], "1,,a"), ({}, "[object Object]"),
        (2**64 - 1, "18446744073709552000"), (float(2**64), "18446744073709552000"),
    ],
)  # fmt: skip
def test_values_become_text_as_in_the_browser(value: object, text: str) -> None:
    assert as_text(value) == text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/* a /* b", "/* a /* b"), ("/*/ a */b", "b"), ("/*// a\nb", "/*\nb"), ("a//b\u2028c// d", "a\u2028c"),
        ("/* a */ /* b", " /* b"), ("// /* a\n*/b", "\n*/b"), ("/" * 100_001, ""), ("/* " * 100_000, "/* " * 100_000),
    ],
    ids=range(8),
)  # fmt: skip
def test_comments(text: str, wanted: str) -> None:
    assert dynamic_prompt(text, Random(1)) == wanted


def test_braces_in_braces() -> None:
    assert dynamic_prompt("{" * 50 + "a" + "}" * 50, Random(1)) == "a"
    with pytest.raises(RecursionError):
        dynamic_prompt("{" * 51, Random(1))


def test_numbers_beyond_all_limits() -> None:
    assert as_javascript_has_it([2**53, 2**53 + 1, -(2**70), 10**400, {"a": 2**64}]) == [
        2**53, 2**53, -1180591620717411300000, None, {"a": 18446744073709552000},
    ]  # fmt: skip
