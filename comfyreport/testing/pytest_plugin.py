"""Fixtures for authors' tests, found by pytest through its entry point; what they need is imported when one is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(name="comfyreport_play")
def play_fixture() -> Callable[..., str]:
    """`comfyreport.testing.play`: plays a recording through a reporter and returns what it wrote."""
    from comfyreport.testing import play

    return play


@pytest.fixture(name="comfyreport_conforms")
def conforms_fixture() -> Callable[..., None]:
    """`comfyreport.testing.conforms`: tries a reporter in all that can happen to it."""
    from comfyreport.testing import conforms

    return conforms


@pytest.fixture(name="comfyreport_stream")
def stream_fixture() -> Callable[..., Any]:
    """`comfyreport.testing.FakeStream`: a stream in memory, as wide as asked for, a terminal or not."""
    from comfyreport.testing import FakeStream

    return FakeStream


@pytest.fixture(name="comfyreport_recording")
def recording_fixture(request: pytest.FixtureRequest) -> str:
    """The name of a recording that ships; a test that takes it runs once for each."""
    return str(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each recording, where a test asks for `comfyreport_recording`."""
    if "comfyreport_recording" in metafunc.fixturenames:
        from comfyreport.testing import recordings

        metafunc.parametrize("comfyreport_recording", recordings(), indirect=True)
