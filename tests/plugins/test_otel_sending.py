"""The `otel` reporter sends to a collector on loopback; one that is dead, refuses or hangs costs a while at the end."""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Iterator

import pytest
from comfyreport_otel import otel
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from comfyreport import events as ev
from comfyreport.errors import ReporterError
from comfyreport.testing import conforms, play
from tests.plugins.collector import Collector, collecting
from tests.plugins.events import EventBuilder, deliver, progress, txt2img

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRACEPARENT", "TRACESTATE", "BAGGAGE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


def test_traces_and_metrics_arrive(collector: Collector) -> None:
    play(otel, "txt2img", destination=collector.url)
    assert [span.name for span in collector.spans][-2:] == ["SaveImage", "comfyui run"]
    assert collector.metric_names == {
        "comfyui.runs", "comfyui.run.duration", "comfyui.run.queue.duration", "comfyui.run.cached"
    }  # fmt: skip
    assert collector.resource()["service.name"] == "comfyreport"
    assert collector.resource()["telemetry.sdk.language"] == "python"
    assert not collector.spans[-1].parent_span_id


def test_a_replay_gives_the_trace_of_the_run(collector: Collector) -> None:
    for _ in range(2):
        play(otel, "parallel", destination=collector.url)
    first, second = (
        [(s.name, s.start_time_unix_nano, s.end_time_unix_nano) for s in collector.spans][i::2] for i in (0, 1)
    )
    assert sorted(first + second) == sorted(2 * sorted({*first, *second}))


def test_the_standard_variables(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20s3cret",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_SERVICE_NAME": "studio",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "TRACEPARENT": f"00-{TRACE}-{PARENT}-01",
    }.items():
        monkeypatch.setenv(name, value)
    play(otel, "cached")
    assert {headers["authorization"] for headers in collector.headers} == {"Bearer s3cret"}
    assert collector.resource()["service.name"] == "studio"
    assert collector.resource()["deployment.environment.name"] == "test"
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    (root,) = (span for span in collector.spans if span.name == "comfyui run")
    assert root.parent_span_id.hex() == PARENT


def test_a_parent_that_isnt_sampled(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEPARENT", f"00-{TRACE}-{PARENT}-00")
    play(otel, "txt2img", destination=collector.url)
    assert collector.spans == []
    assert collector.metric_names


def test_in_python_the_current_span_is_the_parent(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEPARENT", f"00-{TRACE}-{PARENT}-01")
    with TracerProvider(shutdown_on_exit=False).get_tracer("app").start_as_current_span("app") as span:
        reporter = otel(collector.url)
    deliver(reporter, txt2img())
    assert {each.trace_id.hex() for each in collector.spans} == {
        trace.format_trace_id(span.get_span_context().trace_id)
    }


@pytest.mark.parametrize(
    ("variables", "traces", "metrics"),
    [
        ({"OTEL_SDK_DISABLED": "true"}, False, False),
        ({"OTEL_TRACES_EXPORTER": "none"}, False, True),
        ({"OTEL_METRICS_EXPORTER": "none"}, True, False),
    ],
)
def test_less_is_sent(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], traces: bool, metrics: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    play(otel, "txt2img", destination=collector.url)
    assert (bool(collector.traces), bool(collector.metrics)) == (traces, metrics)


def test_a_collector_that_is_busy_at_first() -> None:
    with collecting(lambda number: 503 if number < 2 else 200) as collector:
        # Both may be answers to one of the two signals, which is sent a third time three seconds later.
        play(otel, "txt2img", destination=collector.url, timeout=4.5)
    assert collector.spans
    assert collector.metric_names


def test_a_wrong_secret_is_told_once(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.CRITICAL)
    with collecting(lambda number: 401) as collector, pytest.raises(ReporterError, match="401 Unauthorized"):
        play(otel, "txt2img", destination=collector.url)
    assert capfd.readouterr() == ("", "")


def test_a_dead_collector_has_a_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(ReporterError, match=r"can't be reached|not within") as raised:
        play(otel, "txt2img", destination=f"http://user:s3cret@127.0.0.1:{port}", timeout=0.5)
    assert "s3cret" not in str(raised.value)


def test_one_that_hangs_has_a_deadline() -> None:
    held = threading.Event()

    def hang(number: int) -> int:
        held.wait(30)
        return 200

    try:
        with collecting(hang) as collector:
            with pytest.raises(ReporterError, match=r"not within 0\.5 s"):
                play(otel, "txt2img", destination=collector.url, timeout=0.5)
            held.set()
    finally:
        held.set()


@pytest.mark.parametrize("url", ["collector:4318", "ftp://collector", "http://"])
def test_what_is_no_collector(url: str) -> None:
    with pytest.raises(ReporterError, match="no collector's address"):
        otel(url)


@pytest.mark.parametrize("timeout", [0.0, -1.0, 5.0, float("nan")])
def test_a_timeout_that_closing_doesnt_have(timeout: float) -> None:
    with pytest.raises(ReporterError, match="timeout="):
        otel(timeout=timeout)


def test_grpc_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(ReporterError, match="HTTP alone") as raised:
        otel()
    assert raised.value.hint == "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with pytest.raises(ReporterError, match="needs the OpenTelemetry SDK") as raised:
        otel()
    assert raised.value.hint == 'pip install "comfyreport[otel]"'


@pytest.mark.slow
def test_it_conforms(collector: Collector) -> None:
    conforms(otel, destination=collector.url)


@pytest.mark.parametrize("status", [302, 400])
def test_what_is_refused_once_is_lost_whatever_comes_later(status: int) -> None:
    with collecting(lambda number: 200 if number else status) as collector, pytest.raises(ReporterError) as caught:
        play(otel, "txt2img", destination=collector.url)
    assert f"it answers {status}" in caught.value.message


def test_very_many_spans_have_room(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing is sent before the end: each of them has to wait.
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2048")
    nodes = [ev.NodeRef(id=str(number), class_type="Many") for number in range(3_000)]
    builder = EventBuilder().begin()
    for node in nodes:
        builder.add(ev.NodeCached, node=node, **progress(0, 3_000))
    deliver(otel(collector.url), builder.end())
    assert len(collector.spans) >= 3_001


def late(number: int) -> int:
    """Answers when much more waits."""
    threading.Event().wait(1.0)
    return 200


def test_spans_without_room_are_told_of(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    collector.answer = late
    with pytest.raises(ReporterError, match="more spans waited"):
        play(otel, "many", destination=collector.url)


def test_what_others_of_the_process_had_no_room_for_is_not_told_as_its_own(collector: Collector) -> None:
    reporter = otel(collector.url)
    logging.getLogger("opentelemetry.sdk").warning("Queue full, dropping Span.")
    deliver(reporter, txt2img())
    assert len(collector.spans) == 8
