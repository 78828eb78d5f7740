"""What is said of many runs at their end."""

from __future__ import annotations

import pytest

from comfyreport.ledger.ledger import Failure
from comfyreport.listings.many import MOST_NAMED, again, describe_failures, describe_rest
from comfyreport.shell import quote


def test_nothing_is_said_where_nothing_failed() -> None:
    assert describe_failures([], 0, 24) == []
    assert describe_rest(["--workflow", "a.json"], None, failed=0, unbegun=0) == []


def test_failures_are_named_by_index_and_inputs() -> None:
    failures = [Failure(3, "seed=3, steps=20", "error", "out of\x1b[2J memory"), Failure(7, "", "rejected", "no")]
    assert describe_failures(failures, 2, 24) == [
        "2 of 24 runs failed:",
        "  run 3 (seed=3, steps=20): error: out of\\x1b[2J memory",
        "  run 7: rejected: no",
    ]


def test_of_many_failures_the_first_are_named() -> None:
    failures = [Failure(index, "", "error", "no") for index in range(1, MOST_NAMED + 1)]
    lines = describe_failures(failures, 100, 1000)
    assert len(lines) == MOST_NAMED + 2
    assert lines[-1] == f"  and {100 - MOST_NAMED} more"


def test_the_command_for_the_failed_ones_can_be_typed() -> None:
    words = ["--workflow", "a file.json", "--grid", "seed=1..9", "--state", "s.db"]
    expected = f"comfyreport --workflow {quote('a file.json')} --grid seed=1..9 --state s.db --only failed"
    assert describe_rest(words, "s.db", failed=2, unbegun=0) == [f"to run only those again that failed: {expected}"]
    assert again([*words, "--only", "failed"]) == expected


@pytest.mark.parametrize(
    "secret",
    [
        ["--header", "X-Key: not-a-secret"],
        ["--extra-data=api_key=k"],
        ["--server", "http://user:pw@host"],
        ["--set", "3.api_key=k"],
        ["--server", "http://host/?token=k"],
        ["--server", "user:pw@host:8188"],
        ["--grid", "9.api_key=a,b"],
        ["--reporter", "webhook=http://host/hook/secret"],
    ],
)
def test_a_command_with_something_secret_is_not_repeated(secret: list[str]) -> None:
    assert again(["--workflow", "a.json", *secret]) == "the same command with --only failed"


def test_what_was_not_made_is_told() -> None:
    assert describe_rest([], None, failed=0, unbegun=1) == [
        "1 run was not made: with --state FILE from its start on, a command can go on"
    ]
    assert describe_rest([], "s.db", failed=0, unbegun=5) == [
        "5 runs were not made: the same command goes on from there"
    ]
