"""What the tests of reaching servers have in common: an nginx, credentials, and that nothing secret is ever written.

`conftest.py` makes the fixtures known: `authority`, `nginx`, `reached` and `watched`.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyreport.simulator import Simulator
from tests.e2e.driver import Driver, Ended
from tests.e2e.nginx import Authority, Nginx
from tests.simulator.prompts import picture

PASSWORD = "p%40ss:wörd/1"
USER = "k@te"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
USERINFO = "k%40te:p%2540ss%3Aw%C3%B6rd%2F1@"
TOKEN = "tok-0123456789abcdef"
KEY = "key-fedcba9876543210"
SECRETS = (PASSWORD, USERINFO[:-1], "p%2540ss%3Aw%C3%B6rd%2F1", BASIC, TOKEN, KEY)

BASIC_ONLY = f'if ($http_authorization != "Basic {BASIC}") {{ return 401; }}'
TOKEN_ONLY = f'if ($http_authorization != "Bearer {TOKEN}") {{ return 401; }}'
KEY_ONLY = f'if ($http_x_api_key != "{KEY}") {{ return 401; }}'

Make = Callable[..., Nginx]
Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def reached() -> Iterator[Simulator]:
    """The simulator behind it all; ended with the module, for other tests count the threads that are left."""
    with Simulator(speed=40) as made:
        yield made


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A private certificate authority."""
    return Authority(tmp_path_factory.mktemp("authority") / "own")


@pytest.fixture
def nginx(reached: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Starts an nginx in front of the simulator, or of another server; ended with the test."""
    folder = tmp_path_factory.mktemp("nginx")
    made: list[Nginx] = []

    def make(upstream: str = "", **options: Any) -> Nginx:
        server = Nginx(folder / str(len(made)), upstream or reached.url, **options)
        made.append(server)
        return server.__enter__()

    yield make
    for server in made:
        server.__exit__(None, None, None)


@pytest.fixture
def watched(driver: Driver) -> Iterator[Callable[..., Ended]]:
    """Runs a workflow with everything on that writes something; nothing secret may be in any of it."""
    count = 0

    def make(*arguments: Any, env: dict[str, str] | None = None, **options: Any) -> Ended:
        nonlocal count
        count += 1
        return driver.follow(
            picture(seed=time.monotonic_ns() % 10**9, steps=2), *arguments,
            "--record", driver.folder / f"{count}.recording", "--reporter", f"filelog={count}.log",
            "--reporter", "console", env={"COMFYREPORT_DEBUG": "1", **(env or {})}, **options,
        )  # fmt: skip

    yield make
    assert count
    assert_no_secret(driver.folder)


def assert_no_secret(folder: Path) -> None:
    """No file that was written holds a secret; those that were given are named given-…."""
    looked = 0
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("given-"):
            text = path.read_text(encoding="utf-8", errors="replace")
            for secret in SECRETS:
                assert secret not in text, (path.name, secret)
            looked += 1
    assert looked >= 4


def with_userinfo(url: str, userinfo: str = USERINFO) -> str:
    return url.replace("://", f"://{userinfo}", 1)


def assert_success(ended: Ended) -> None:
    assert ended.code == 0, ended.err
    assert ended.result["status"] == "success"
    assert ended.of("node_progress")


def assert_unreachable(ended: Ended, code: str, *words: str, retryable: bool = False) -> None:
    """Exit 3 with this error, whose message holds these words; nothing was submitted."""
    assert ended.code == 3, ended.err
    result = ended.result
    assert (result["status"], result["error"]["code"]) == ("unreachable", code), result
    assert (result["prompt_state"], result["submitted"]) == ("none", "no")
    assert result["retryable"] is retryable
    for word in words:
        assert word in f"{result['error']['message']} {result['error']['hint']}", result["error"]
    assert result["error"]["message"] in ended.err
