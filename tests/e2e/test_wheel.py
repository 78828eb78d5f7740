"""The wheel: what is in it, what it needs, and that it works where nothing else is installed."""

from __future__ import annotations

import email.parser
import json
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.e2e.installation import ROOT, Installed, build_wheel, copy_checkout

pytestmark = pytest.mark.e2e

PACKAGES = {"comfyreport", "comfyreport-0.1.0.dist-info"}
MODULES = {path.name for path in (ROOT / "plugins").glob("comfyreport_*.py")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    return zipfile.ZipFile(build_wheel(copy_checkout(folder / "checkout"), folder / "dist"))


def test_top_level_names(wheel: zipfile.ZipFile) -> None:
    """`plugins` and `tests` must not become import names in a stranger's environment."""
    assert {name.partition("/")[0] for name in wheel.namelist()} == PACKAGES | MODULES


def test_what_is_in_it(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    checkout = Path(__file__).resolve().parents[2]
    modules = {path.relative_to(checkout).as_posix() for path in (checkout / "comfyreport").rglob("*.py")}
    assert modules <= set(names)
    assert "comfyreport/py.typed" in names
    assert any(name.endswith("LICENSE") for name in names)
    recordings = [wheel.getinfo(name) for name in names if name.endswith(".jsonl.gz")]
    assert recordings
    assert sum(info.file_size for info in recordings) <= 500 * 1024


def test_what_it_needs(wheel: zipfile.ZipFile) -> None:
    text = wheel.read("comfyreport-0.1.0.dist-info/METADATA").decode()
    wanted = email.parser.Parser().parsestr(text).get_all("Requires-Dist") or []
    core = {re.split("[<>]", line)[0] for line in wanted if "extra ==" not in line}
    assert core == {
        "certifi", "orjson", "platformdirs", "pluggy", "requests", "truststore", "urllib3", "wcwidth",
        "websocket-client",
    }  # fmt: skip


def test_installed_size(installed: Installed) -> None:
    """The core alone, without its dependencies and without byte code, stays a small thing."""
    code = "import comfyreport, pathlib; print(pathlib.Path(comfyreport.__file__).parent)"
    done = subprocess.run(
        [installed.python, "-c", code], cwd=installed.folder, capture_output=True, encoding="utf-8", check=True
    )
    folder = Path(done.stdout.strip())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert size < 2 * 1024 * 1024


def test_it_runs_outside_the_checkout(installed: Installed, tmp_path: Path) -> None:
    done = installed.run("reporters", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert {about["name"] for about in json.loads(done.stdout)} >= {"console", "jsonl"}
