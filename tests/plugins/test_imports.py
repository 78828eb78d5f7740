"""What a reporter's file imports: comfyreport's public names, the standard library, and what its own extra brings."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import comfyreport

FILES = sorted((Path(__file__).parents[2] / "plugins").glob("comfyreport_*.py"))
# What these need beside: packages of comfyreport or of their extra.
PACKAGES = {
    "html": {"jinja2", "markupsafe"},
    "junit": {"junitparser"},
    "notebook": {"IPython"},
    "otel": {"opentelemetry", "requests", "urllib3"},
    "preview": {"PIL"},
    "webhook": {"requests"},
}
# Those for which a variable of the environment names a place or holds a secret.
ENVIRONMENT = {"github", "otel", "webhook"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports(path: Path) -> None:
    reporter = path.stem.removeprefix("comfyreport_")
    known = (sys.stdlib_module_names | PACKAGES.get(reporter, set())) - {"time"}
    if reporter not in ENVIRONMENT:
        known -= {"os"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [node.module or ""]
            if node.module == "comfyreport":
                assert {alias.name for alias in node.names} <= set(comfyreport.__all__)
        for name in names:
            assert name == "comfyreport" or name.partition(".")[0] in known, name


def test_all_are_there() -> None:
    told = {"console", "quiet", "jsonl", "filelog", *PACKAGES, *ENVIRONMENT, "trace"}
    assert {path.stem.removeprefix("comfyreport_") for path in FILES} >= told
