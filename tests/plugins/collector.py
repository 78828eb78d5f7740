"""A collector of OpenTelemetry on loopback: it takes OTLP over HTTP, as real ones do, and keeps what came."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """What came: `traces` and `metrics` as requests, and the headers of each.

    :param answer: the status for the request of that number, from 0.
    """

    def __init__(self, answer: Callable[[int], int] = lambda number: 200) -> None:
        self.answer = answer
        self.url = ""
        self.traces: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.headers: list[dict[str, str]] = []

    @property
    def spans(self) -> list[Span]:
        """All spans that came."""
        resources = [resource for request in self.traces for resource in request.resource_spans]
        return [span for resource in resources for scope in resource.scope_spans for span in scope.spans]

    @property
    def metric_names(self) -> set[str]:
        """The names of all metrics that came."""
        resources = [resource for request in self.metrics for resource in request.resource_metrics]
        metrics: list[Metric] = [
            each for resource in resources for scope in resource.scope_metrics for each in scope.metrics
        ]
        return {metric.name for metric in metrics}

    def resource(self) -> dict[str, str]:
        """What the first trace says of who sent it."""
        return {each.key: each.value.string_value for each in self.traces[0].resource_spans[0].resource.attributes}

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Keep one request; the status of its answer."""
        self.headers.append(headers)
        status = self.answer(len(self.headers) - 1)
        data = gzip.decompress(body) if headers.get("Content-Encoding") == "gzip" else body
        if status == 200 and path == "/v1/traces":
            self.traces.append(ExportTraceServiceRequest.FromString(data))
        elif status == 200 and path == "/v1/metrics":
            self.metrics.append(ExportMetricsServiceRequest.FromString(data))
        return status if path in ("/v1/traces", "/v1/metrics") else 404


@contextmanager
def collecting(answer: Callable[[int], int] = lambda number: 200) -> Iterator[Collector]:
    """A collector that listens as long as the block runs."""
    collector = Collector(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(collector.take(self.path, dict(self.headers), body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
