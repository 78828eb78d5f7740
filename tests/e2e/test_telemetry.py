"""The command sends telemetry to a collector; a dead one, or a wrong secret, is told once and costs no run."""

from __future__ import annotations

import socket

import pytest

from tests.e2e.driver import Driver, Ended
from tests.e2e.installation import ROOT
from tests.plugins.collector import collecting

pytestmark = pytest.mark.e2e

WORKFLOW = ROOT / "workflows" / "sd15-txt2img.json"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


RUN = ("--workflow", WORKFLOW, "--server", "sim", "--output", "out.png")
QUICK = {"COMFYREPORT_SIM_SPEED": "20"}


def run(driver: Driver, *reporters: str, **variables: str) -> Ended:
    """Run a workflow that saves a picture, with these reporters."""
    words = [word for spec in reporters for word in ("--reporter", spec)]
    return driver.run(*RUN, *words, env={**QUICK, **variables})


def test_a_run(driver: Driver) -> None:
    with collecting() as collector:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "TRACEPARENT": TRACEPARENT}
        ended = run(driver, "quiet", "otel", **variables)
    assert (ended.code, ended.out, ended.err) == (0, "out.png\n", "")
    assert len(collector.spans) == 8
    assert {span.trace_id.hex() for span in collector.spans} == {TRACEPARENT.split("-")[1]}
    assert "comfyui.run.duration" in collector.metric_names


def test_a_replay(driver: Driver) -> None:
    with collecting() as collector:
        ended = driver.run("replay", "node-error", "--speed", "0", "--reporter", f"otel={collector.url}")
    assert ended.code == 1
    assert any(event.name == "exception" for span in collector.spans for event in span.events)


def told_once(ended: Ended) -> str:
    """The one line about a run that was fine but for its telemetry."""
    assert (ended.code, ended.result["exit_code"], ended.out) == (5, 0, "out.png\n"), ended.err
    assert ended.err.count("otel") == 1, ended.err
    (line,) = [line for line in ended.err.splitlines() if "otel" in line]
    assert "the collector didn't take all" in line
    return line


def test_a_dead_collector(driver: Driver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    ended = run(driver, "console", f"otel={address},timeout=1")
    told_once(ended)
    assert "[OK] Generation complete" in ended.err


def test_a_wrong_secret(driver: Driver) -> None:
    with collecting(lambda number: 401) as collector:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_HEADERS": "x-key=s3cret"}
        ended = run(driver, "quiet", "otel", **variables)
    assert "401 Unauthorized" in told_once(ended)
    assert "s3cret" not in ended.err


@pytest.mark.parametrize(
    ("spec", "package"), [("otel=http://127.0.0.1:4318", "opentelemetry"), ("notebook", "IPython")]
)
def test_a_missing_package_is_told_with_its_extra(driver: Driver, spec: str, package: str) -> None:
    ended = run(driver, spec, **driver.without(package))
    assert ended.code == 2
    assert ended.err.count(f'pip install "comfyreport[{spec.partition("=")[0]}]"') == 1
    assert not (driver.folder / "out.png").exists()
