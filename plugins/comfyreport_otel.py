"""The `otel` reporter: traces and metrics of runs for OpenTelemetry, sent over OTLP/HTTP.

Spans have the times of the events, also in a replay. Threads of the SDK send; only the close waits for them, a while.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from os import environ
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from comfyreport import (
    ErrorInfo,
    Event,
    NodeCached,
    NodeFinished,
    NodeRef,
    NodeStarted,
    ReporterError,
    RunFinished,
    RunQueued,
    RunView,
    StreamStarted,
    Warning,  # noqa: A004  the event's name
    __version__,
    hookimpl,
    printable,
    web_address,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

Attributes = dict[str, "str | bool | int | float"]

_SHARES = [tenths / 10 for tenths in range(11)]
_SECONDS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
_TEXT_LIMIT, _NAME_LIMIT = 4_000, 200
_MAX_TIMEOUT = 4.5  # closing has five seconds
_SPANS_WAITING, _ANSWER_LIMIT = 50_000, 65_536  # spans, where the SDK has room for 2,048; bytes that are read


class _Run(NamedTuple):
    """The spans of a run that aren't ended yet."""

    span: Span
    context: Context
    nodes: dict[str, Span]


class OpenTelemetry:
    """Makes a span for each run and, below it, one for each time that a node runs; counts and measures runs."""

    def __init__(
        self,
        traces: Any,
        metrics: Any,
        posts: list[Any],
        parent: Context | None,
        timeout: float,
        untaken: Callable[[], bool] | None = None,
    ) -> None:
        self._tracer = traces.get_tracer("comfyreport", __version__)
        self._providers, self._posts, self._parent, self._timeout = (traces, metrics), posts, parent, timeout
        self._server: Attributes = {}
        self._untaken = untaken
        self._started_at: float | None = None
        self._latest = 0
        self._command: Span | None = None
        self._several = False
        self._runs: dict[int | None, _Run] = {}
        meter = metrics.get_meter("comfyreport", __version__)
        self._count = meter.create_counter("comfyui.runs", "{run}", "runs, by status")
        histograms = {"duration": ("s", _SECONDS), "queue.duration": ("s", _SECONDS), "cached": ("1", _SHARES)}
        self._seconds, self._queue_seconds, self._cached_share = (
            meter.create_histogram(f"comfyui.run.{name}", unit, explicit_bucket_boundaries_advisory=bounds)
            for name, (unit, bounds) in histograms.items()
        )

    def _nanoseconds(self, event: Event, earlier: float = 0.0) -> int:
        """The time of *event*, less *earlier* seconds. A clock that is set meanwhile bends no span."""
        if self._started_at is None:
            self._started_at = event.time - event.elapsed
        moment = max(0, round((self._started_at + event.elapsed - earlier) * 1e9))
        self._latest = max(self._latest, moment)
        return moment

    def _command_span(self, event: Event) -> Span:
        """The span of the command, where it makes several runs; it begins with the stream."""
        if self._command is None:
            start = self._nanoseconds(event, event.elapsed)
            about = self._server
            self._command = self._tracer.start_span("comfyui command", self._parent, attributes=about, start_time=start)
        return self._command

    def _parent_of(self, event: Event) -> Context | None:
        """What the span of *event*'s run is below: of several runs, the span of the command."""
        from opentelemetry.trace import set_span_in_context

        if event.run_index is None:
            return self._parent
        return set_span_in_context(self._command_span(event), self._parent)

    def _run(self, event: Event, seconds: float = 0.0) -> _Run:
        """The run of *event*; its span begins with the first event of it, or *seconds* before that."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        run = self._runs.get(event.run_index)
        if run is None:
            about = self._server | ({} if event.run_index is None else {"comfyui.run.index": event.run_index})
            start = self._nanoseconds(event, seconds)
            parent = self._parent_of(event)
            span = self._tracer.start_span("comfyui run", parent, SpanKind.CLIENT, about, start_time=start)
            run = self._runs[event.run_index] = _Run(span, set_span_in_context(span), {})
        return run

    def _start_node(self, event: Event, node: NodeRef, seconds: float = 0.0) -> Span:
        """A span of *node* that began *seconds* before *event*."""
        told = {"id": node.id, "class_type": node.class_type, "title": node.title, "raw_id": node.raw_id}
        attributes = _texts({f"comfyui.node.{key}": value for key, value in told.items()})
        context, start = self._run(event).context, self._nanoseconds(event, seconds)
        name = printable(node.name, _NAME_LIMIT) or "node"
        span: Span = self._tracer.start_span(name, context, attributes=attributes, start_time=start)
        return span

    def _add_event(self, event: Event, name: str, attributes: Attributes, span: Span | None = None) -> None:
        (span or self._run(event).span).add_event(name, attributes, timestamp=self._nanoseconds(event))

    @hookimpl
    def comfyreport_stream_started(self, event: StreamStarted) -> None:
        """Note where runs go, and how many there are."""
        self._several = event.runs_total > 1
        self._server = {**_texts({"comfyui.command": event.command}), **_server_attributes(event.server)}

    @hookimpl
    def comfyreport_run_queued(self, event: RunQueued) -> None:
        """A server has taken the prompt; where it is another one than before, the run goes on in the same span."""
        run, server = self._run(event), _server_attributes(event.server or "")
        while run.nodes:
            run.nodes.popitem()[1].end(self._nanoseconds(event))
        run.span.set_attributes(server | _texts({"comfyui.worker": event.worker}))
        self._add_event(event, "queued", server)

    @hookimpl
    def comfyreport_warning(self, event: Warning) -> None:
        """A warning, at the node that it is about if that runs, or at the command if it is about all runs."""
        span = None if event.node is None else self._run(event).nodes.get(event.node.id)
        if event.run_index is None and self._several:
            span = self._command_span(event)
        told = {"comfyui.warning.code": event.code, "comfyui.warning.message": event.message}
        self._add_event(event, "warning", _texts(told, _TEXT_LIMIT), span)

    @hookimpl
    def comfyreport_node_cached(self, event: NodeCached) -> None:
        """A span without length, so that the trace has every node."""
        span = self._start_node(event, event.node)
        span.set_attribute("comfyui.node.cached", True)
        span.end(self._nanoseconds(event))

    @hookimpl
    def comfyreport_node_started(self, event: NodeStarted) -> None:
        """A node began, maybe again."""
        nodes = self._run(event).nodes
        if event.node.id in nodes:
            nodes.pop(event.node.id).end(self._nanoseconds(event))
        nodes[event.node.id] = self._start_node(event, event.node)

    @hookimpl
    def comfyreport_node_finished(self, event: NodeFinished, run: RunView) -> None:
        """A node ended; where nobody saw it begin, its span has the length that is known."""
        span = self._run(event).nodes.pop(event.node.id, None)
        span = span or self._start_node(event, event.node, event.seconds or 0.0)
        node = run.nodes.get(event.node.id)
        if node is not None:
            told = {"steps": node.max_steps, "steps_per_second": node.steps_per_second}
            span.set_attributes({f"comfyui.node.{name}": each for name, each in told.items() if each is not None})
        span.end(self._nanoseconds(event))

    @hookimpl
    def comfyreport_run_finished(self, event: RunFinished) -> None:
        """End what is open, and measure."""
        from opentelemetry.trace import StatusCode

        run, end, error = self._run(event, event.seconds), self._nanoseconds(event), event.error
        failed = None if error is None or error.node is None else run.nodes.get(error.node.id)
        for span in (run.span, *([] if failed is None else [failed])):
            if error is not None:
                self._add_event(event, "exception", _exception_attributes(error), span)
            if event.status not in ("success", "detached"):
                span.set_attributes(_texts({"error.type": error.code if error else event.status}))
                span.set_status(StatusCode.ERROR, printable(error.message, _TEXT_LIMIT) if error else None)
        run.span.set_attributes(_result_attributes(event))
        for span in (*run.nodes.values(), run.span):
            span.end(end)
        del self._runs[event.run_index]
        status = _texts({"comfyui.run.status": event.status})
        self._count.add(1, status)
        self._seconds.record(event.seconds, status)
        if event.queue_seconds is not None:
            self._queue_seconds.record(event.queue_seconds, status)
        if event.cached or event.executed:
            self._cached_share.record(len(event.cached) / len((*event.cached, *event.executed)), status)

    @hookimpl
    def comfyreport_close(self) -> None:
        """Send what waits. ReporterError where that takes too long, or the collector didn't take it."""
        if self._command is not None:
            self._command.end(self._latest)
        # Their own limits are longer, and not kept. Daemons hold up no exit. Both have all of the time, side by side.
        threads = [threading.Thread(target=provider.shutdown, daemon=True) for provider in self._providers]

        def shut_down() -> None:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        waiting = threading.Thread(target=shut_down, daemon=True)
        waiting.start()
        waiting.join(self._timeout)
        reasons = [each for posts in self._posts for each in (posts.lost, posts.reason) if each]
        if self._untaken is not None and self._untaken():
            reasons.append("more spans waited than there is room for")
        reason = next(iter(reasons), "")
        if reason or waiting.is_alive():
            raise ReporterError(f"the collector didn't take all: {reason or f'not within {self._timeout:g} s'}")


def _texts(told: dict[str, Any], limit: int = _NAME_LIMIT) -> Attributes:
    # Without lone surrogates, for which a whole batch would be lost.
    return {name: printable(value, limit) for name, value in told.items() if value is not None}


def _server_attributes(server: str) -> Attributes:
    if (address := web_address(server)) is None:
        return {}
    return _texts({"server.address": address.hostname}) | ({"server.port": address.port} if address.port else {})


def _exception_attributes(error: ErrorInfo) -> Attributes:
    """The error by the semantic conventions of exceptions."""
    trace = "\n".join(printable(line, _TEXT_LIMIT) for text in error.traceback for line in text.splitlines())
    attributes = _texts({"exception.type": error.exception_type or error.code})
    attributes |= _texts({"exception.message": error.message}, _TEXT_LIMIT)
    return attributes | {"exception.stacktrace": trace[-4 * _TEXT_LIMIT :]} if trace else attributes


def _result_attributes(event: RunFinished) -> Attributes:
    # A seed has up to 64 bits, one more than the protocol's numbers: it is told as text.
    told = {"comfyui.prompt.id": event.prompt_id, "comfyui.seed": event.seed, "comfyui.run.status": event.status}
    seconds = {"duration": event.seconds, "queue.duration": event.queue_seconds, "usual_duration": event.usual_seconds}
    counts = {"executed": event.executed, "cached": event.cached, "outputs": event.outputs}
    return {
        **_texts(told),
        **{f"comfyui.run.{name}": each for name, each in seconds.items() if each is not None},
        **{f"comfyui.run.{name}": len(each) for name, each in counts.items()},
        "comfyui.run.exit_code": event.exit_code,
    }


def _posts() -> Any:
    """What an exporter sends with; it notes why something wasn't taken, which exporters tell a log alone."""
    import requests
    from urllib3.exceptions import HTTPError

    class Posts(requests.Session):
        reason = lost = ""

        def request(self, method: str | bytes, url: str | bytes, *args: Any, **more: Any) -> requests.Response:
            # An answer is read up to a bound. To exporters any below 400 is a success: not here.
            try:
                response = super().request(method, url, *args, **{**more, "stream": True, "allow_redirects": False})
                with response:
                    response._content = response.raw.read(_ANSWER_LIMIT, decode_content=True)
            except (requests.RequestException, HTTPError) as error:
                # Its text may have the URL, with what is secret in that.
                self.reason = f"{urlsplit(str(url)).hostname} can't be reached ({type(error).__name__})"
                raise
            status = response.status_code
            response.status_code = max(status, 400) if status >= 300 else status
            self.reason = "" if status < 300 else f"it answers {status} {printable(response.reason, 80)}"
            self.lost = self.lost or (self.reason if status < 500 and status not in (408, 429) else "")
            return response

    return Posts()


def _counted_spans(traces: Any, exporter: Any) -> Callable[[], bool]:
    """Count the spans that end and those that *exporter* gets; whether some never came to it, for want of room.

    The log alone tells of the want of room, and it is one log for all that send in this process.
    """
    from opentelemetry.sdk.trace import SpanProcessor

    counts = {"ended": 0, "taken": 0}
    export = exporter.export

    class Ended(SpanProcessor):
        def on_end(self, span: Any) -> None:
            counts["ended"] += span.context.trace_flags.sampled

    def taken(spans: Any) -> Any:
        counts["taken"] += len(spans)
        return export(spans)

    exporter.export = taken
    traces.add_span_processor(Ended())
    return lambda: _log.dropped and counts["taken"] < counts["ended"]


class _Log(logging.Handler):
    """Takes what the SDK logs: failures are told once, at the end. Where there was no room for spans it alone says."""

    dropped = False

    def emit(self, record: logging.LogRecord) -> None:
        self.dropped = self.dropped or "Queue full" in record.getMessage()


_log = _Log()


def otel(url: str = "", *, timeout: float = 3.0) -> OpenTelemetry:
    """Traces and metrics for OpenTelemetry, over OTLP/HTTP; DEST is a collector, else the `OTEL_*` variables say where.

    :param timeout: seconds to wait at the end for the collector to take the last of it
    """
    if url and web_address(url) is None:
        raise ReporterError("otel: DEST is no collector's address", hint="--reporter otel=http://HOST:4318")
    if "grpc" in (environ.get(f"OTEL_EXPORTER_OTLP_{kind}PROTOCOL") for kind in ("", "TRACES_", "METRICS_")):
        raise ReporterError("otel speaks OTLP over HTTP alone", hint="set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf")
    if not 0 < timeout <= _MAX_TIMEOUT:
        raise ReporterError(f"otel: timeout={timeout} can't be used", hint=f"give up to {_MAX_TIMEOUT} seconds")
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk import metrics, resources, trace
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ReporterError("otel needs the OpenTelemetry SDK", hint='pip install "comfyreport[otel]"') from error
    _log.dropped = False
    logging.getLogger("opentelemetry").addHandler(_log)
    named = "OTEL_SERVICE_NAME" in environ or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    ours = {} if named else {"service.name": "comfyreport", "service.version": __version__}
    resource = resources.Resource.create(ours)
    posts = [_posts(), _posts()]
    endpoints = [f"{url.rstrip('/')}/v1/{kind}" if url else None for kind in ("traces", "metrics")]
    traces = trace.TracerProvider(resource=resource, shutdown_on_exit=False)
    untaken = None
    if environ.get("OTEL_TRACES_EXPORTER") != "none":
        room = None if "OTEL_BSP_MAX_QUEUE_SIZE" in environ else _SPANS_WAITING
        exporter = OTLPSpanExporter(endpoints[0], session=posts[0])
        untaken = _counted_spans(traces, exporter)
        traces.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=room))
    readers = []
    if environ.get("OTEL_METRICS_EXPORTER") != "none":
        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter(endpoints[1], session=posts[1])))
    meters = metrics.MeterProvider(readers, resource, shutdown_on_exit=False)
    return OpenTelemetry(traces, meters, posts, _parent(), timeout, untaken)


def _parent() -> Context:
    """What the caller is in the midst of: in Python its current span, else the one that the environment tells."""
    from opentelemetry import context, propagate, trace

    current = context.get_current()
    if trace.get_current_span(current).get_span_context().is_valid:
        return current
    return propagate.extract({key: environ.get(key.upper(), "") for key in propagate.get_global_textmap().fields})
