"""Wings: no import points up, none has a circle, plugins see the public door alone, and it loads no network library."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import comfyreport

CORE = Path(comfyreport.__file__).parent
PLUGINS = Path(__file__).resolve().parent.parent / "plugins"

# Lowest first. A wing imports only from wings below its own; `ground` is the modules that stand in no folder.
WINGS = (
    "ground", "events", "protocol", "estimates", "run", "workflow/convert", "workflow", "learning", "access",
    "recording", "net", "saving", "reporting", "render", "sim_nodes", "simulator", "inputs", "engine", "jobs",
    "planning", "ledger", "batch", "fleet", "listings", "api", "flags", "cli", "testing",
)  # fmt: skip
GROUND = {
    "_lazy", "_version", "backpressure", "databases", "errors", "files", "process", "shell", "terminal", "text",
    "timers", "timing", "windows_console", "worker",
}  # fmt: skip

NETWORK = {"aiohttp", "asyncio", "http", "requests", "socket", "urllib3", "websocket"}


class Import(NamedTuple):
    """One import that a file has: the module it names, in full, and the line."""

    line: int
    module: str


def imports(path: Path, *, type_checking: bool = True) -> Iterator[Import]:
    """All imports of a file, wherever they stand; *type_checking*: those for types alone too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = set() if type_checking else {id(node) for block in type_checks(tree) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            source = str(node.module)
            if node.level:
                package = ".".join(path.relative_to(CORE.parent).parts[: -node.level])
                source = f"{package}.{node.module}" if node.module else package
            for alias in node.names:
                name = f"{source}.{alias.name}"
                yield Import(node.lineno, name if name in MODULES else source)


def type_checks(tree: ast.Module) -> list[ast.If]:
    return [
        node
        for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]


def name_of(path: Path) -> str:
    """The module that a file of the core is."""
    parts = path.relative_to(CORE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def wing_of(module: str) -> str:
    """The wing that a module of the core belongs to; `door` for the package itself."""
    _, _, rest = module.partition(".")
    first = rest.partition(".")[0]
    if not first or first == "__main__":
        return "door"
    if rest.startswith("workflow.convert"):
        return "workflow/convert"
    return "ground" if first in GROUND else first


FILES = sorted(CORE.rglob("*.py"))
MODULES = {name_of(path): path for path in FILES}
INSIDE = {module: path for module, path in MODULES.items() if wing_of(module) != "door"}


def place(path: Path, found: Import) -> str:
    return f"{path.relative_to(CORE.parent)}:{found.line} imports {found.module}"


def test_each_module_is_in_a_wing() -> None:
    assert {wing_of(module) for module in INSIDE} == set(WINGS)


@pytest.mark.parametrize("wing", [wing for wing in WINGS if wing not in ("ground", "api")])
def test_each_wing_has_tests_that_are_quick(wing: str) -> None:
    files = list((Path(__file__).parent / wing).glob("test_*.py"))
    assert any("pytestmark = pytest.mark.slow" not in path.read_text(encoding="utf-8") for path in files)


@pytest.mark.parametrize("module", INSIDE)
def test_no_import_points_up(module: str) -> None:
    own = WINGS.index(wing_of(module))
    wrong = []
    for found in imports(INSIDE[module]):
        if found.module.partition(".")[0] != "comfyreport":
            continue
        wing = wing_of(found.module)
        if wing == "door":
            wrong.append(f"{place(INSIDE[module], found)}: the public door is for others")
        elif WINGS.index(wing) > own:
            wrong.append(f"{place(INSIDE[module], found)}, which is above it")
    assert wrong == []


@pytest.mark.parametrize("wing", WINGS)
def test_no_wing_has_a_circle(wing: str) -> None:
    graph = {
        module: {found.module for found in imports(path) if found.module in MODULES and wing_of(found.module) == wing}
        for module, path in INSIDE.items()
        if wing_of(module) == wing
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_the_simulator_knows_nothing_of_the_rest() -> None:
    for module, path in INSIDE.items():
        if wing_of(module) in ("simulator", "sim_nodes"):
            own = {"simulator", "sim_nodes"}
            assert {wing_of(each.module) for each in imports(path) if each.module in MODULES} <= own, path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_knows_no_plugin(path: Path) -> None:
    plugins = {each.stem for each in PLUGINS.glob("*.py")} | {"plugins"}
    assert [place(path, found) for found in imports(path) if found.module.partition(".")[0] in plugins] == []


@pytest.mark.parametrize("path", sorted(PLUGINS.glob("*.py")), ids=lambda path: path.stem)
def test_a_plugin_sees_the_public_door_alone(path: Path) -> None:
    others = {each.stem for each in PLUGINS.glob("*.py")} | {"generate", "plugins", "tests"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not {alias.name.partition(".")[0] for alias in node.names} & (others | {"comfyreport"})
        elif isinstance(node, ast.ImportFrom):
            assert str(node.module).partition(".")[0] not in others
            if str(node.module).partition(".")[0] == "comfyreport":
                assert node.module == "comfyreport"
                assert {alias.name for alias in node.names} <= set(comfyreport.__all__)


@pytest.mark.parametrize("module", INSIDE)
def test_only_the_net_speaks_to_the_network(module: str) -> None:
    path = INSIDE[module]
    if wing_of(module) not in ("net", "simulator"):
        assert [place(path, found) for found in imports(path) if found.module.partition(".")[0] in NETWORK] == []


def test_the_door_itself_imports_nothing_but_the_version() -> None:
    found = {each.module for each in imports(CORE / "__init__.py", type_checking=False)}
    assert {each for each in found if each.startswith("comfyreport")} == {"comfyreport._lazy", "comfyreport._version"}


def loaded(statements: str) -> set[str]:
    """The modules that a fresh interpreter has loaded behind *statements*."""
    code = f"import sys\n{statements}\nprint(*sys.modules)"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statements",
    [
        "import comfyreport",
        "from comfyreport import hookimpl, NodeProgress",
        "from comfyreport import RunView, Stream, stdout, to_line, Thinner, describe_event, printable",
    ],
)
def test_what_plugins_import_loads_no_network_library(statements: str) -> None:
    found = loaded(statements)
    assert "comfyreport" in found
    assert found & {"aiohttp", "asyncio", "requests", "socket", "ssl", "urllib3", "websocket"} == set()


def test_the_door_alone_loads_nothing_of_the_core() -> None:
    assert {name for name in loaded("import comfyreport") if name.startswith("comfyreport.")} == {
        "comfyreport._lazy",
        "comfyreport._version",
    }


def test_the_fixtures_load_nothing_of_the_core_until_one_is_used() -> None:
    found = {name for name in loaded("import comfyreport.testing.pytest_plugin") if name.startswith("comfyreport")}
    own = {"comfyreport.testing", "comfyreport.testing.pytest_plugin"}
    assert found == {"comfyreport", "comfyreport._lazy", "comfyreport._version", *own}
