"""Dask as an engine, as far as no scheduler is needed: addresses, and what answers there instead of one."""

from __future__ import annotations

import builtins
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from comfyreport._version import __version__
from comfyreport.errors import UnreachableError, UsageError
from comfyreport.fleet import dask


@pytest.mark.parametrize(
    "url",
    ["dask://", "dask://gpu-box", "dask://:8786", "dask://gpu-box:port", "dask://gpu-box:0", "http://gpu-box:1", ""],
)
def test_what_is_no_address_of_an_engine(url: str) -> None:
    with pytest.raises(UsageError, match="is no address of an engine") as caught:
        dask.connect(url, "c")
    assert caught.value.hint == "--engine dask://HOST:PORT"


@pytest.mark.parametrize(("url", "expected"), [("dask://a:1", True), ("dask+tls://a:1", True), ("tcp://a:1", False)])
def test_which_addresses_are_dasks(url: str, expected: bool) -> None:
    assert dask.is_dask(url) is expected


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match="isn't installed") as caught:
        dask.connect("dask://127.0.0.1:8786", "c")
    assert caught.value.hint == 'pip install "comfyreport[dask]"'


def test_it_is_loaded_only_where_it_is_needed() -> None:
    """Nothing of Dask is among what running a workflow imports."""
    import subprocess

    code = "import sys, comfyreport.api, comfyreport.fleet.listed; sys.exit('distributed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_where_nothing_listens() -> None:
    pytest.importorskip("distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UnreachableError, match=f"no engine answers at 127.0.0.1:{port}") as caught:
        dask.connect(f"dask://127.0.0.1:{port}", "c")
    assert (caught.value.code, caught.value.retryable) == ("engine", True)


@pytest.fixture
def web_server() -> Iterator[int]:
    """The port of something that answers whatever comes as a web server does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection = listening.accept()[0]
                except OSError:
                    return
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


@pytest.mark.slow
def test_where_something_else_answers(web_server: int, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(UnreachableError, match="is no Dask scheduler") as caught:
        dask.connect(f"dask://127.0.0.1:{web_server}", "c")
    assert caught.value.code == "engine"
    assert capfd.readouterr().err == ""


class Answering:
    """A client whose scheduler and workers have these versions."""

    def __init__(self, scheduler: Any, **workers: Any) -> None:
        self._scheduler = scheduler
        self._workers = workers

    def run_on_scheduler(self, ask: Callable[[], str]) -> Any:
        if isinstance(self._scheduler, Exception):
            raise self._scheduler
        return self._scheduler

    def run(self, ask: Callable[[], str], *, on_error: str) -> Any:
        return self._workers


def test_one_version_everywhere_is_fine() -> None:
    dask._check_versions(Answering(__version__, gpu1=__version__), "dask://a:1")


@pytest.mark.parametrize(
    ("client", "message"),
    [
        (Answering(__version__, gpu1=__version__, gpu2="0.0.1"), "gpu2 has comfyreport 0.0.1, and this is"),
        (Answering(__version__, gpu1=""), "gpu1 has no comfyreport"),
        (Answering(__version__, gpu1=ImportError("x")), "gpu1 has no comfyreport"),
        (Answering("", gpu1=__version__), "the scheduler has no comfyreport"),
        (Answering(OSError("closed")), "can't be asked for its version: OSError: closed"),
    ],
)
def test_other_versions_are_refused(client: Any, message: str) -> None:
    with pytest.raises(UnreachableError, match=message) as caught:
        dask._check_versions(client, "dask://a:1")
    assert caught.value.code == "engine"


def test_what_asks_for_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = dask._version_asker()
    assert ask() == __version__
    own = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.startswith("comfyreport"):
            raise ImportError(name)
        return own(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert ask() == ""


def test_whatever_dask_raises_is_an_os_error() -> None:
    with pytest.raises(OSError, match="ZeroDivisionError: x"), dask._as_os_error():
        raise ZeroDivisionError("x")
    with pytest.raises(ConnectionResetError), dask._as_os_error():
        raise ConnectionResetError
