"""Layers: no import points up, plugins see the public door alone, and the door loads no network library."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

import comfyreport

CORE = Path(comfyreport.__file__).parent
PLUGINS = Path(__file__).resolve().parent.parent / "plugins"

# Lowest first. A module imports only from layers below its own.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("_version", "aside", "codes", "errors", "files", "records", "texts", "timers", "wishes"),
    ("events", "frames", "messages", "process", "timing"),
    ("address", "cookies", "eta", "proxies", "specimens", "wire"),
    ("access", "answers", "hiding", "limits", "made", "nodes", "refusals"),
    ("handshake", "merging", "telling", "verdict"),
    ("inbox", "story"),
    ("run", "view"),
    ("hearing", "hookspecs", "states", "schema", "streams", "thinning"),
    ("checking", "factories", "jsonlines", "mailbox", "prompts", "wording"),
    ("client", "drawing", "plugins", "summary", "workflow"),
    ("delivery", "listing", "looking", "recorder", "sockets", "stage"),
    ("outputs", "recording", "submission", "wires"),
    ("recorded", "inquiry", "saving", "session"),
    ("conformance", "loop", "replay"),
    ("tracker",),
    ("api", "arguments", "simulator", "testing"),
    ("cli", "pytest_plugin"),
    ("__main__",),
)
LAYER = {module: number for number, layer in enumerate(LAYERS) for module in layer}

# `--server sim` starts the simulator, which knows nothing of the core and is a server of its own.
EXCEPTIONS = {("tracker", "simulator")}

NETWORK = {"aiohttp", "asyncio", "http", "requests", "socket", "urllib3", "websocket"}
# The client, and what was taken out of it: its sockets, the limits of its connections, and what its errors mean.
NETWORK_MODULES = {"client", "handshake", "limits", "proxies", "refusals", "sockets"}


class Import(NamedTuple):
    """One module that another one imports: all names dotted, `door` for what comes from the package itself."""

    line: int
    target: str


def imports(path: Path, *, type_checking: bool = True) -> Iterator[Import]:
    """All imports of a file, wherever they stand, without its own package's relative ones."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = set() if type_checking else {id(node) for block in type_checks(tree) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                yield Import(node.lineno, f"{node.module}.{alias.name}")


def type_checks(tree: ast.Module) -> list[ast.If]:
    return [
        node
        for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]


def core_modules() -> list[str]:
    return sorted({path.stem for path in CORE.glob("*.py")} - {"__init__"})


def core_files() -> list[Path]:
    return sorted(path for path in CORE.rglob("*.py") if path != CORE / "__init__.py")


def module_of(path: Path) -> str:
    """The core's module that a file is, or is a part of."""
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def place(path: Path, found: Import) -> str:
    return f"{path.name}:{found.line} imports {found.target}"


def test_each_module_has_a_layer() -> None:
    assert [module for module in core_modules() if module not in LAYER] == [], "give them a place in LAYERS"


@pytest.mark.parametrize("path", core_files(), ids=lambda path: str(path.relative_to(CORE)))
def test_no_import_points_up(path: Path) -> None:
    module = module_of(path)
    wrong = []
    for found in imports(path):
        package, _, rest = found.target.partition(".")
        target = rest.partition(".")[0]
        if package != "comfyreport" or target == module == "simulator" or (module, target) in EXCEPTIONS:
            continue
        if target not in LAYER:
            wrong.append(f"{place(path, found)}: the public door is for others")
        elif LAYER[target] >= LAYER[module]:
            wrong.append(f"{place(path, found)}, which is not below it")
    assert wrong == []


def test_the_order_of_the_layers_is_the_contracts() -> None:
    order = [
        ["events"],
        ["wire", "eta"],
        ["run", "view"],
        ["hookspecs", "streams"],
        ["plugins", "workflow", "client"],
        ["outputs"],
        ["tracker"],
        ["api", "simulator", "testing"],
        ["cli"],
    ]
    heights = [{LAYER[module] for module in layer} for layer in order]
    assert all(max(below) < min(above) for below, above in pairwise(heights))


@pytest.mark.parametrize("path", core_files(), ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_knows_no_plugin(path: Path) -> None:
    plugins = {each.stem for each in PLUGINS.glob("*.py")} | {"plugins"}
    assert [place(path, found) for found in imports(path) if found.target.partition(".")[0] in plugins] == []


@pytest.mark.parametrize("path", sorted(PLUGINS.glob("*.py")), ids=lambda path: path.stem)
def test_a_plugin_sees_the_public_door_alone(path: Path) -> None:
    others = {each.stem for each in PLUGINS.glob("*.py")} | {"generate", "plugins", "tests"}
    public = set(comfyreport.__all__)
    for found in imports(path):
        package, _, rest = found.target.partition(".")
        assert package not in others, place(path, found)
        assert package != "comfyreport" or rest in public, f"{place(path, found)}: that is no public name"


@pytest.mark.parametrize("path", core_files(), ids=lambda path: str(path.relative_to(CORE)))
def test_only_the_client_speaks_to_the_network(path: Path) -> None:
    module = module_of(path)
    if module == "simulator" or module in NETWORK_MODULES:
        return
    assert [place(path, found) for found in imports(path) if found.target.partition(".")[0] in NETWORK] == []


def test_the_door_itself_imports_nothing_but_the_version() -> None:
    found = {each.target for each in imports(CORE / "__init__.py", type_checking=False)}
    assert {each for each in found if each.startswith("comfyreport")} == {"comfyreport._version.__version__"}


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
        "comfyreport._version"
    }


def test_the_fixtures_load_nothing_of_the_core_until_one_is_used() -> None:
    found = {name for name in loaded("import comfyreport.pytest_plugin") if name.startswith("comfyreport")}
    assert found == {"comfyreport", "comfyreport._version", "comfyreport.pytest_plugin"}
