"""The flags of many runs: what they are, whether there are any, and what they ask for."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from comfyreport.cli.main import main
from comfyreport.cli.running import claims_of
from comfyreport.errors import UsageError
from comfyreport.flags.arguments import ArgumentsError, parse, parse_reporting
from comfyreport.flags.batch_flags import check_flags, wanted_of, wants_many
from comfyreport.planning.plan import Wanted
from comfyreport.workflow.settings import Settings


def run(*words: str) -> Namespace:
    return parse("run", ["--workflow", "w.json", *words])


def test_a_flag_that_may_be_given_several_times_has_a_first_value() -> None:
    arguments = run("--workflow", "v.json", "--server", "a", "--server", "b")
    assert (arguments.workflow, arguments.workflows) == ("w.json", ("w.json", "v.json"))
    assert (arguments.server, arguments.servers) == ("a", ("a", "b"))
    assert (run().workflows, run().server, run().servers) == (("w.json",), "", ())


@pytest.mark.parametrize("command", ["attach", "inspect", "convert"])
def test_of_other_commands_the_last_server_counts(command: str) -> None:
    arguments = parse(command, ["x", "--server", "a", "--server", "b"])
    assert arguments.server == "b"
    assert not wants_many(arguments)


@pytest.mark.parametrize(
    ("words", "many"),
    [
        ((), False),
        (("--server", "a", "--seed", "5", "--record", "r"), False),
        (("--repeat", "1", "--retries", "2"), False),
        (("--repeat", "2"), True),
        (("--grid", "seed=1"), True),
        (("--prompts", "p.txt"), True),
        (("--workflow", "v.json"), True),
        (("--server", "a", "--server", "b"), True),
        (("--servers", "s.txt"), True),
        (("--keep-going",), True),
        (("--retries", "0"), True),
        (("--state", "s.db"), True),
        (("--state", "s.db", "--only", "failed"), True),
        (("--manifest", "m.jsonl"), True),
        (("--engine", "dask://gpu-box:8786"), True),
    ],
)
def test_what_makes_many_runs(words: tuple[str, ...], many: bool) -> None:
    assert wants_many(run(*words)) is many


def test_what_is_wanted() -> None:
    words = ("--seed", "5", "--grid", "steps=1,2", "--grid", "3.cfg=5", "--prompts", "p.csv", "--repeat", "3")
    found = wanted_of(run(*words, "--image", "a.png", "--output", "out/"))
    assert [given.path for given in found.files] == ["a.png"]
    assert found == Wanted(
        workflows=("w.json",),
        settings=Settings(seed=5),
        files=found.files,
        output="out/",
        repeat=3,
        grid=("steps=1,2", "3.cfg=5"),
        prompts="p.csv",
    )


def test_rows_may_name_the_workflow() -> None:
    arguments = parse("run", ["--prompts", "p.csv"])
    assert (arguments.workflow, arguments.workflows) == (None, ())
    assert wants_many(arguments)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--repeat", "2"], "the following arguments are required: --workflow"),
        (["--workflow", "w", "--only", "failed"], "--only needs --state FILE, which knows what failed"),
        (["--workflow", "w", "--state", "-"], "--state - is no file: name one that the next command can go on from"),
        (["--workflow", "w", "--repeat", "0"], "argument --repeat: '0' is no whole number from 1"),
        (["--workflow", "w", "--retries", "-1"], "argument --retries: -1 is not a number from 0"),
        (["--workflow", "w", "--only", "all"], "argument --only: invalid choice: 'all' (choose from "),
        (["--workflow", "w", "--engine", "dask://x"], "argument --engine: 'dask://x' is no engine: "),
        (["--workflow", "w", "--engine", "dask://me:secret@x:1"], "argument --engine: "),
        (["w.json", "--repeat", "2"], "--workflow is missing before the workflow's file"),
        (["--repeat", "2", "w.json"], "--workflow is missing before the workflow's file"),
    ],
)
def test_what_is_wrong_with_the_flags(words: list[str], message: str) -> None:
    with pytest.raises(ArgumentsError) as caught:
        parse("run", words)
    assert str(caught.value).startswith(message)
    assert "secret" not in str(caught.value)


def test_a_recording_is_of_one_run() -> None:
    arguments = run("--record", "r", "--repeat", "2")
    check_flags(arguments, 1)
    with pytest.raises(UsageError, match="--record keeps what crosses the wire in one run, and there are 2"):
        check_flags(arguments, 2)


@pytest.mark.parametrize(
    ("words", "first", "second"),
    [
        (("--prompts", "p.csv", "--manifest", "p.csv"), "--prompts", "--manifest"),
        (("--servers", "s.txt", "--state", "s.txt"), "--servers", "--state"),
        (("--state", "s", "--manifest", "s"), "--state", "--manifest"),
        (("--workflow", "v.json", "--manifest", "v.json"), "--workflow", "--manifest"),
        (("--workflow", "w.json"), "--workflow", "--workflow"),
        (("--grid", "prompt=@n.txt,b", "--manifest", "n.txt"), "--set, --prompt-file, --grid", "--manifest"),
        (("--output", "o.png", "--repeat", "2", "--state", "o.png"), "--output", "--state"),
        (("--prompts", "-", "--prompt-file", "-"), "--set, --prompt-file", "--prompts"),
    ],
)
def test_each_file_has_one_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], first: str, second: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (run(*words), parse_reporting(["--nope", "--workflow", "w.json", *words])):
        if "--grid" in words and not hasattr(arguments, "grid"):
            continue
        _, error = claims_of(arguments, None)
        assert error is not None
        assert error.message.startswith(f"{first} and {second} both use ")


def test_uses_that_differ_are_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--prompts", "p", "--servers", "s", "--state", "st", "--manifest", "-", "--output", "o/")
    claims, error = claims_of(run(*words), None)
    assert error is None
    assert claims.has_path(str(tmp_path.resolve() / "st"))
    assert claims.has_descriptor(1)


def test_many_runs_are_a_command_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Namespace] = []

    def run_many(arguments: Namespace, *_: object) -> int:
        called.append(arguments)
        return 42

    monkeypatch.setattr("comfyreport.cli.many.run_many_command", run_many)
    assert main(["--workflow", "w.json", "--repeat", "2"]) == 42
    assert [arguments.repeat for arguments in called] == [2]
