"""What a reporter's file imports: comfyreport's public names and the standard library, as a third party's would."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import comfyreport

FILES = sorted((Path(__file__).parents[2] / "plugins").glob("comfyreport_*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [node.module or ""]
            if node.module == "comfyreport":
                assert {alias.name for alias in node.names} <= set(comfyreport.__all__)
        for name in names:
            assert name == "comfyreport" or name.partition(".")[0] in sys.stdlib_module_names
            assert name not in ("os", "time"), "a reporter asks neither the environment nor a clock"


def test_all_four_are_there() -> None:
    assert {path.stem.removeprefix("comfyreport_") for path in FILES} >= {"console", "quiet", "jsonl", "filelog"}
