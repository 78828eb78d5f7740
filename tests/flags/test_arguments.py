"""The arguments: what is parsed, and what is found among bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfyreport.flags.arguments import ArgumentsError, build_parser, parse_reporting


def test_the_command_run_may_be_left_out() -> None:
    assert build_parser().parse_args(["--workflow", "w"]) == build_parser("run").parse_args(["--workflow", "w"])


def test_a_tilde_is_the_home_folder_in_each_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    home = f"{tmp_path}/"
    words = [
        *("--workflow", "~/w", "--output=~/x.png", "--record", "~/r", "--cacert", "~/ca", "--client-cert", "~/c,~/k"),
        *("--header", "@~/h", "--header", "X-Home: ~/h", "--prompt", "~/p"),
    ]
    for found in (build_parser().parse_args(words), parse_reporting([*words, "--nope"])):
        assert (found.workflow, found.output, found.record) == (f"{home}w", f"{home}x.png", f"{home}r")
        assert (found.cacert, found.header) == (f"{home}ca", [f"@{home}h", "X-Home: ~/h"])
    found = build_parser().parse_args(words)
    assert (found.client_cert, found.prompt) == (f"{home}c,{home}k", "~/p")
    assert build_parser("replay").parse_args(["~/r"]).recording == f"{home}r"
    assert build_parser().parse_args(["--workflow", "-", "--output", "./~"]).output == "./~"


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
