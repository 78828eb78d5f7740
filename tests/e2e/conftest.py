"""What the end-to-end tests run: the installed wheel (`installed`), and a real ComfyUI.

Tests of the marker `real` use the fixture `comfyui`, one server for the whole session, or `comfyui_factory`
where they kill or freeze it. Nothing skips them but COMFYREPORT_SKIP_REAL=1 and, outside CI,
a package that pip can't find.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.e2e import comfyui_env, tiny_checkpoint
from tests.e2e.comfyui_server import ComfyUI
from tests.e2e.driver import Driver, checker_of
from tests.e2e.installation import Installed, install
from tests.e2e.raw_client import RawClient
from tests.e2e.reaching import authority, nginx, reached, watched
from tests.e2e.terminals import start, terminal_server

__all__ = ["authority", "nginx", "reached", "start", "terminal_server", "watched"]

SKIP_VARIABLE = "COMFYREPORT_SKIP_REAL"
SKIP_REASON = f"REAL COMFYUI NOT TESTED: {SKIP_VARIABLE}=1 is set"


class ComfyUIFactory(Protocol):
    """Starts servers that end with the test; keyword arguments go to ComfyUI."""

    def __call__(self, *, checkpoint: bool = False, **options: Any) -> ComfyUI: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of a real server where the variable asks for it."""
    if os.environ.get(SKIP_VARIABLE) != "1":
        return
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(pytest.mark.skip(reason=SKIP_REASON))


@pytest.fixture(scope="session", autouse=True)
def _hangup_not_ignored() -> Iterator[None]:
    """Let the commands find SIGHUP as a terminal leaves it: ignored, as under nohup, it ends nothing."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel of this checkout in a virtual environment of its own; install nothing more into it."""
    return install(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def driver(installed: Installed, tmp_path: Path) -> Iterator[Driver]:
    """Starts the installed command as a process, with an event stream that is checked."""
    made = Driver(installed, tmp_path, checker_of(installed))
    yield made
    made.end_all()


@pytest.fixture(scope="session")
def comfyui_environment(request: pytest.FixtureRequest) -> comfyui_env.Environment:
    """The environment of the real ComfyUI, made on first use, which takes minutes."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    try:
        with capture.global_and_fixture_disabled():
            return comfyui_env.ensure()
    except comfyui_env.PackageUnavailableError as failure:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"REAL COMFYUI NOT TESTED: {failure}")


@pytest.fixture(scope="session")
def checkpoint_file() -> Path:
    """The tiny checkpoint in the cache."""
    return tiny_checkpoint.ensure()


@pytest.fixture(scope="session")
def comfyui(
    comfyui_environment: comfyui_env.Environment, checkpoint_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyUI]:
    """A running server with the node pack and the tiny checkpoint; leave it running, with an empty queue."""
    base = tmp_path_factory.mktemp("comfyui")
    with ComfyUI(comfyui_environment, base, checkpoint=checkpoint_file) as server:
        yield server


@pytest.fixture
def comfyui_factory(
    comfyui_environment: comfyui_env.Environment, checkpoint_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyUIFactory]:
    """Starts servers of one's own, to be killed, frozen and restarted; all end with the test."""
    servers: list[ComfyUI] = []

    def make(*, checkpoint: bool = False, **options: Any) -> ComfyUI:
        base = tmp_path_factory.mktemp("own-comfyui")
        file = checkpoint_file if checkpoint else None
        server = ComfyUI(comfyui_environment, base, checkpoint=file, **options)
        servers.append(server)
        return server.start()

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def raw(comfyui: ComfyUI) -> Iterator[RawClient]:
    """A bare client of the shared server, whose queue is empty before and after the test."""
    with RawClient(comfyui.url) as client:
        client.empty_queue()
        yield client
        client.empty_queue()


@pytest.fixture
def real(driver: Driver, raw: RawClient) -> Driver:
    """The driver, pointed at the shared server, which is idle."""
    driver.server = raw.url
    return driver
