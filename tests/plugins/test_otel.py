"""The `otel` reporter: the spans and metrics that a run leaves, by the SDK's own exporters in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from comfyreport_otel import OpenTelemetry
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from comfyreport import events as ev
from comfyreport.testing import recordings, stream_of
from comfyreport.testing.harness import Harness
from comfyreport.testing.samples import hostile_values
from tests.plugins.events import EPOCH, SAMPLER, EventBuilder, failed, fully_cached, sampling, txt2img

ROOT_NAME = "comfyui run"


class Told:
    """What a stream of events leaves: `spans` in the order of their ends, `metrics` by name."""

    def __init__(self, events: Iterable[ev.Event]) -> None:
        exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
        traces = TracerProvider(shutdown_on_exit=False)
        traces.add_span_processor(SimpleSpanProcessor(exporter))
        reporter = OpenTelemetry(traces, MeterProvider([reader], shutdown_on_exit=False), [], None, 4.0)
        harness = Harness(reporter, "otel")
        for event in events:
            if not isinstance(event, ev.StreamFinished):
                harness.deliver(event)
        data: Any = reader.get_metrics_data()
        harness.call_hook("close")
        self.spans: tuple[ReadableSpan, ...] = exporter.get_finished_spans()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        self.metrics = {metric.name: list(metric.data.data_points) for scope in scopes for metric in scope.metrics}

    @property
    def roots(self) -> list[ReadableSpan]:
        return [span for span in self.spans if span.parent is None]

    @property
    def nodes(self) -> list[ReadableSpan]:
        return [span for span in self.spans if span.parent is not None]


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_a_run_and_its_nodes() -> None:
    told = Told(txt2img())
    (root,) = told.roots
    assert root.name == ROOT_NAME
    assert root.kind is SpanKind.CLIENT
    assert root.start_time == pytest.approx((EPOCH + 0.1) * 1e9, abs=1e3), "when the server had the prompt"
    assert root.end_time == pytest.approx((EPOCH + 23.5) * 1e9, abs=1e3)
    assert attributes(root)["server.address"] == "127.0.0.1"
    assert attributes(root)["server.port"] == 8188
    assert attributes(root)["comfyui.run.status"] == "success"
    assert attributes(root)["comfyui.run.outputs"] == 1
    assert root.status.status_code is StatusCode.UNSET
    assert [event.name for event in root.events] == ["queued"]
    assert [span.name for span in told.nodes][4:] == ["KSampler", "VAEDecode", "SaveImage"]
    assert all(span.parent and span.parent.span_id == root.context.span_id for span in told.nodes if root.context)
    sampler = told.nodes[4]
    assert sampler.start_time == pytest.approx((EPOCH + 4.0) * 1e9, abs=1e3)
    assert seconds(sampler) == pytest.approx(16.0)
    assert attributes(sampler)["comfyui.node.steps"] == 20
    assert attributes(sampler)["comfyui.node.steps_per_second"] == pytest.approx(1.25)


def test_metrics() -> None:
    metrics = Told(txt2img()).metrics
    (count,) = metrics["comfyui.runs"]
    assert (count.value, dict(count.attributes)) == (1, {"comfyui.run.status": "success"})
    assert metrics["comfyui.run.duration"][0].sum == pytest.approx(23.4)
    assert metrics["comfyui.run.queue.duration"][0].sum == pytest.approx(0.02)
    assert metrics["comfyui.run.cached"][0].sum == 0.0
    assert Told(fully_cached()).metrics["comfyui.run.cached"][0].sum == 1.0


def test_cached_nodes_have_no_length() -> None:
    nodes = Told(fully_cached()).nodes
    assert len(nodes) == 7
    assert all(attributes(span)["comfyui.node.cached"] is True and seconds(span) == 0 for span in nodes)


def test_an_error_stands_at_its_node_and_at_the_run() -> None:
    told = Told(failed())
    (sampler,) = (span for span in told.nodes if span.name == "KSampler")
    for span in (sampler, *told.roots):
        (event,) = (event for event in span.events if event.name == "exception")
        values = event.attributes or {}
        assert values["exception.type"] == "RuntimeError"
        assert str(values["exception.message"]).startswith("mat1 and mat2")
        assert str(values["exception.stacktrace"]).splitlines()[1] == "    return common_ksampler(model)"
        assert attributes(span)["error.type"] == "node_error"
        assert span.status.status_code is StatusCode.ERROR
    assert Told(failed()).metrics["comfyui.runs"][0].attributes == {"comfyui.run.status": "error"}


def test_a_warning_stands_at_the_node_that_runs() -> None:
    builder = sampling()
    builder.add(ev.Warning, code="stalled", message="nothing heard for 30 s", node=SAMPLER)
    builder.add(ev.Warning, code="deaf_socket", message="frames stay away")
    told = Told(builder.end())
    (sampler,) = (span for span in told.nodes if span.name == "KSampler")
    assert [(event.name, dict(event.attributes or {})) for event in sampler.events] == [
        ("warning", {"comfyui.warning.code": "stalled", "comfyui.warning.message": "nothing heard for 30 s"})
    ]
    assert [event.name for event in told.roots[0].events] == ["queued", "warning"]


def test_a_clock_that_is_set_meanwhile_bends_nothing() -> None:
    events = txt2img()
    late = [event if event.elapsed < 10 else type(event)(**{**fields(event), "time": 1.0}) for event in events]
    assert [seconds(span) for span in Told(late).spans] == [seconds(span) for span in Told(events).spans]


def fields(event: ev.Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name, field in event.__dataclass_fields__.items() if field.init}


def test_a_node_whose_beginning_nobody_saw() -> None:
    builder = EventBuilder().begin()
    builder.at(9.0).add(ev.NodeFinished, node=SAMPLER, seconds=3.0)
    builder.at(9.5).add(ev.NodeFinished, node=SAMPLER)
    first, second = Told(builder.end()).nodes
    assert seconds(first) == pytest.approx(3.0)
    assert seconds(second) == 0


def test_a_run_that_never_began() -> None:
    builder = EventBuilder()
    builder.at(2.0).add(ev.RunFinished, status="unreachable", exit_code=3, seconds=1.5)
    (root,) = Told(builder.events).spans
    assert seconds(root) == pytest.approx(1.5)
    assert attributes(root)["error.type"] == "unreachable"


def test_several_runs_have_a_span_each() -> None:
    events: list[ev.Event] = []
    for index in (1, 2):
        events += [type(each)(**{**fields(each), "run_index": index}) for each in fully_cached()[1:-1]]
    told = Told([fully_cached()[0], *events])
    (command,) = told.roots
    assert command.name == "comfyui command"
    runs = [span for span in told.spans if span.name == "comfyui run"]
    assert [attributes(span)["comfyui.run.index"] for span in runs] == [1, 2]
    assert {span.parent.span_id for span in runs if span.parent} == {command.context.span_id if command.context else 0}
    assert command.start_time is not None
    assert command.end_time == max(span.end_time or 0 for span in told.spans)
    assert told.metrics["comfyui.runs"][0].value == 2


def test_a_seed_of_64_bits() -> None:
    (root,) = Told(sampling().end(seed=2**64 - 1)).roots
    assert attributes(root)["comfyui.seed"] == str(2**64 - 1)


def test_what_a_server_sends_can_be_encoded_and_is_bounded() -> None:
    told = Told(hostile_values())
    texts = [value for span in told.spans for value in attributes(span).values() if isinstance(value, str)]
    texts += [str(value) for span in told.spans for event in span.events for value in (event.attributes or {}).values()]
    texts += [span.name for span in told.spans] + [span.status.description or "" for span in told.spans]
    assert all(len(text.encode()) <= 70_000 and "\x1b" not in text for text in texts)
    assert all(0 < len(span.name) <= 200 for span in told.spans)


@pytest.mark.parametrize("name", recordings())
def test_every_recording_is_one_trace(name: str) -> None:
    events = list(stream_of(name))
    told = Told(events)
    (end,) = (event for event in events if isinstance(event, ev.RunFinished))
    (root,) = told.roots
    assert attributes(root)["comfyui.run.status"] == end.status
    assert (root.status.status_code is StatusCode.ERROR) == (end.status != "success")
    ids = {attributes(span)["comfyui.node.id"] for span in told.nodes}
    assert ids == {*end.executed, *end.cached}
    started = sum(isinstance(event, (ev.NodeStarted, ev.NodeCached)) for event in events)
    assert len(told.nodes) >= started
    assert told.metrics["comfyui.runs"][0].value == 1
    for span in told.nodes:
        assert span.context is not None
        assert root.context is not None
        assert span.context.trace_id == root.context.trace_id
        assert (root.start_time or 0) <= (span.start_time or 0) <= (span.end_time or 0) <= (root.end_time or 0)
