"""The arguments: what is parsed, and what is found among bad ones."""

from __future__ import annotations

import pytest

from comfyreport.cli.arguments import ArgumentsError, build_parser, parse_reporting


def test_the_command_run_may_be_left_out() -> None:
    assert build_parser().parse_args(["--workflow", "w"]) == build_parser("run").parse_args(["--workflow", "w"])


def test_no_flag_may_be_abbreviated() -> None:
    with pytest.raises(ArgumentsError, match="--json"):
        build_parser().parse_args(["--workflow", "w", "--json"])


@pytest.mark.parametrize(
    ("words", "reporters", "color"),
    [
        (["--nope", "--reporter", "jsonl=a"], ["jsonl=a"], "auto"),
        (["--color", "sometimes", "--reporter", "jsonl=a"], ["jsonl=a"], "auto"),
        (["--color", "never", "x", "y", "--reporter", "a", "--timeout", "soon", "--reporter"], ["a"], "never"),
        (["--reporter=a", "-p"], ["a"], "auto"),
        (["--quiet=yes", "--reporter", "a"], [], "auto"),
        ([], [], "auto"),
    ],
)
def test_reporters_are_found_among_bad_arguments(words: list[str], reporters: list[str], color: str) -> None:
    found = parse_reporting(words)
    assert (found.reporter, found.color) == (reporters, color)
