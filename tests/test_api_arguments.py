"""Arguments of the wrong type, which the command line couldn't have: a usage error that names them."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport import run_generation

GRAPH = {"1": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 640), ("size", "640x512"), ("size", (640, 0)), ("seed", "5"), ("steps", 2.5), ("batch", "1"),
        ("inputs", ["3.cfg=5"]), ("timeout", "5"), ("max_eta", "5"),
    ],
)  # fmt: skip
def test_an_argument_of_the_wrong_type(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {name: value}
    ended = run_generation(GRAPH, server="http://127.0.0.1:1", quiet=True, **arguments)
    assert (ended.status, ended.submitted) == ("usage", "no")
    assert ended.error is not None
    assert ended.error.message == f"{name} has the wrong type"
