"""Before there is a run: the server is asked, waited for, and where it can't be had, the workflow's kind is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfyreport.access.credentials import Access
from comfyreport.errors import UnreachableError, WorkflowError
from comfyreport.jobs.converting import convert_for_simulator, converter
from comfyreport.net.client import Client
from comfyreport.protocol.statuses import Response
from comfyreport.timing import Timing
from tests.workflow.convert.files import File

FILE = File().node(1, "Size", [64]).content()
QUICK = Timing(reconnect_first=0.01, reconnect_max=0.01)


class Starting:
    """A server that fails so often before it answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *errors: UnreachableError) -> None:
        self.asked = 0
        self._errors = list(errors)
        monkeypatch.setattr(Client, "get", lambda client, path: self.get(path))

    def get(self, path: str) -> Response:
        self.asked += 1
        if self._errors:
            raise self._errors.pop(0)
        return Response(200, {"Size": {"input": {"required": {"width": ["INT", {}]}}}}, "")


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMFYREPORT_CACHE", str(tmp_path))


def test_a_server_that_comes_up_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [UnreachableError("refused", retryable=True), UnreachableError("a proxy's page", code="not_comfyui")]
    starting = Starting(monkeypatch, *errors)
    convert = converter("127.0.0.1:1", Access(), QUICK, "/", wait=60)
    assert convert(FILE).prompt["1"]["inputs"] == {"width": 64}
    assert starting.asked == 4


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (UnreachableError("refused", hint="start it", retryable=True), 0.0),
        (UnreachableError("refused", hint="start it", code="auth"), 60.0),
    ],
)
def test_a_server_that_can_not_be_had(monkeypatch: pytest.MonkeyPatch, error: UnreachableError, wait: float) -> None:
    starting = Starting(monkeypatch, error)
    with pytest.raises(UnreachableError, match="refused; the workflow is in the editor's format") as caught:
        converter("127.0.0.1:1", Access(), QUICK, "/", wait=wait)(FILE)
    assert (starting.asked, caught.value.hint, caught.value.code) == (1, "start it", error.code)


def test_the_simulator_converts_what_it_knows_alone() -> None:
    known = File().node(1, "EmptyLatentImage", [64, 32, 1]).content()
    assert convert_for_simulator(known).prompt["1"]["inputs"] == {"width": 64, "height": 32, "batch_size": 1}
    for name, values in (("LatentUpscale", ["nearest-exact", 64, 64, "disabled"]), ("NoSuchClass", [])):
        with pytest.raises(WorkflowError, match=rf"node 1 \({name}\)") as caught:
            convert_for_simulator(File().node(1, name, values).content())
        assert "comfyreport convert FILE" in caught.value.hint
