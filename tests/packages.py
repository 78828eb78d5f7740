"""Distributions made by tests: a module and its entry points in a folder on the path, as pip would leave them.

`tests/conftest.py` makes its fixtures known: `packages` and `plugins`.
"""

from __future__ import annotations

import importlib
import io
import sys
import textwrap
from collections.abc import Iterator, Mapping
from importlib.metadata import MetadataPathFinder
from pathlib import Path

import pytest

from comfyreport.errors import ReporterError
from comfyreport.reporting.hookspecs import PROJECT
from comfyreport.reporting.plugins import Plugins, Reporter, StandardStreams
from comfyreport.reporting.streams import Stream

BROKEN_MODULES = (
    ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
    ("raise SystemExit('no licence')", "SystemExit: no licence"),
    ("raise BaseException", "BaseException"),
    ("def (", "SyntaxError"),
    ("x = 1", "AttributeError: module 'broken' has no attribute 'broken'"),
)
"""Sources of modules whose reporter `broken` can't be loaded, and the cause that is reported."""


class Packages:
    """Installs distributions into a folder that is on `sys.path` as long as the test runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self, name: str, source: str = "", points: Mapping[str, str] | None = None, *, metadata: str | None = None
    ) -> str:
        """Install the module *name* with the entry points *points*; returns the name.

        Without *points*, the entry point bears the module's name and points to its function of that name.
        """
        (self.folder / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        info = self.folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        lines = [f"{key} = {value}" for key, value in ({name: f"{name}:{name}"} if points is None else points).items()]
        text = f"[{PROJECT}]\n" + "\n".join(lines) + "\n" if metadata is None else metadata
        (info / "entry_points.txt").write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        # Before Python 3.11 that leaves out what is known of the folder, which is looked at by its time alone.
        MetadataPathFinder().invalidate_caches()
        return name


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packages]:
    """A place to install distributions; what they import is forgotten at the end."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield Packages(folder)
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(folder):
            del sys.modules[name]


BELL = """
    from comfyreport import Stream, hookimpl, stderr

    class Bell:
        def __init__(self, out, times):
            self.out, self.times = out, times

        @hookimpl
        def comfyreport_run_finished(self, event):
            self.out.write("ring " * self.times)

    def {name}(out: Stream{default}, *, times: int = 1):
        \"\"\"Rings at the end.\"\"\"
        return Bell(out, times)
"""


@pytest.fixture
def plugins() -> Iterator[Plugins]:
    made = make_plugins()
    yield made
    for reporter in made.reporters:
        if reporter.stream is not None:
            reporter.stream.close()


def make_plugins(blocked: tuple[str, ...] = ()) -> Plugins:
    return Plugins(StandardStreams(Stream(io.StringIO(), name="stdout"), Stream(io.StringIO(), name="stderr")), blocked)


def error_of(plugins: Plugins, spec: str) -> ReporterError:
    """What choosing *spec* raises; nothing is registered then."""
    before = list(plugins.reporters)
    with pytest.raises(ReporterError) as caught:
        plugins.add_spec(spec)
    assert plugins.reporters == before
    assert "\n" not in caught.value.message
    return caught.value


def bell(packages: Packages, name: str = "bell", default: str = "") -> str:
    return packages.add(name, BELL.format(name=name, default=default))


def chosen(plugins: Plugins, spec: str) -> Reporter:
    plugins.add_spec(spec)
    return plugins.reporters[-1]
