"""What is told of what was asked for: enough to make it again, and nothing secret."""

from __future__ import annotations

import pytest

from comfyreport.saving.origin import Origin
from tests.systems import needs_posix


@needs_posix("its shell's quotes")
def test_the_command_sets_what_was_set() -> None:
    origin = Origin(
        server="http://s:1",
        workflow="my flow.json",
        settings={"6.text": "a 'red' kite", "3.seed": 5, "3.cfg": 7.5, "3.on": True, "7.text": "@home"},
        output="out.png",
    )
    assert origin.command == (
        "comfyreport --workflow 'my flow.json' --server http://s:1 --set '6.text=a '\"'\"'red'\"'\"' kite' "
        "--set 3.seed=5 --set 3.cfg=7.5 --set 3.on=true --set 7.text=@@home --output out.png --sidecar"
    )


@pytest.mark.parametrize("name", ["7.api_key", "7.auth_token"])
def test_inputs_that_are_secret_are_told_nowhere(name: str) -> None:
    origin = Origin(server="s", workflow="w.json", settings={name: "s3cret"}, output="o")
    assert "s3cret" not in str(origin.fields())
    assert name in origin.fields()["inputs"]


def test_without_a_file_there_is_no_command() -> None:
    assert Origin(server="s", output="o").command is None


@needs_posix("its shell's quotes")
def test_files_of_this_machine_are_named_as_they_were() -> None:
    files = {"10.image": ("image", "b/in.png")}
    origin = Origin(
        server="s", workflow="w.json", settings={"10.image": "in.png"}, files=files, output="o/", include_temp=True
    )
    assert origin.command == (
        "comfyreport --workflow w.json --server s --image 10=b/in.png --output o/ --include-temp --sidecar"
    )
