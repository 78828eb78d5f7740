"""Each Python block of the pages is a module that passes `mypy --strict`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import BLOCKS, ROOT, Block

PYTHON = [block for block in BLOCKS if block.language == "python"]
LIMIT = 300.0


def module_of(block: Block) -> str:
    """The name of a block's module, which tells where the block stands."""
    return re.sub(r"\W", "_", f"{block.page}_line_{block.line}")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What one run of mypy has to say of all blocks, by module."""
    folder = tmp_path_factory.mktemp("blocks")
    library = folder / "files"
    library.mkdir()
    for block in PYTHON:
        (folder / f"{module_of(block)}.py").write_text(block.text, encoding="utf-8")
        if block.file:
            # Other blocks import it; of several versions, the last one.
            (library / Path(block.file).name).write_text(block.text, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, "--cache-dir", "cache"]
    # What the pages import is read, and what is wrong in a library of another Python's is not theirs.
    command += ["--follow-imports", "silent"]
    done = subprocess.run(
        [*command, *(f"{module_of(block)}.py" for block in PYTHON)],
        cwd=folder,
        env={**os.environ, "MYPYPATH": os.pathsep.join(map(str, (library, ROOT, ROOT / "plugins")))},
        capture_output=True,
        encoding="utf-8",
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert re.search(rf"(Success|checked {len(PYTHON)} source files|in {len(PYTHON)} source files)", done.stdout)
    said: dict[str, list[str]] = {}
    for line in done.stdout.splitlines()[:-1]:
        said.setdefault(line.partition(".py:")[0], []).append(line)
    return said


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.id)
def test_block_is_typed(block: Block, found: dict[str, list[str]]) -> None:
    assert found.get(module_of(block), []) == []


def test_nothing_else_is_wrong(found: dict[str, list[str]]) -> None:
    assert set(found) <= {module_of(block) for block in PYTHON}
