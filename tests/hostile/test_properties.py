"""Messages of every type with contents of every kind, through a run and all reporters: nothing raises or leaks."""

from __future__ import annotations

import io
import json
from typing import Any

import comfyreport_console
import comfyreport_filelog
import comfyreport_jsonl
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from comfyreport import events as ev
from comfyreport.events import Instant, RunView
from comfyreport.protocol import decode, responses
from comfyreport.render.wording import describe_event
from comfyreport.reporting.hookspecs import PREFIX
from comfyreport.reporting.streams import Stream
from comfyreport.run import Run
from comfyreport.run.verdict import Verdict
from tests.hostile.running import assert_printable, read_lines
from tests.hostile.server import WORKFLOW
from tests.plugins.terminal import Plain, Terminal

PROMPT = "prompt"
NODES = ("1", "2", "3", "2.0.0.1", "9", "")
EVIL = st.sampled_from(
    ["\x1b[2J", "\x9b31m", "\u202egnp", "\u2028", "\x00", "\ud800", "\r\n[OK] done", "a\tb", "é" * 300]
)
TEXT = st.one_of(EVIL, st.text(max_size=8), st.sampled_from(NODES))
NUMBER: st.SearchStrategy[Any] = st.one_of(
    st.integers(-3, 30),
    st.floats(),
    st.sampled_from([0, -1, 10**30, -(10**400), 2**63, 2**64, 1e308, "5", True, None, [], {}]),
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
NODE = st.one_of(st.sampled_from(NODES), JSON)
IDS = st.one_of(st.just(PROMPT), st.just(PROMPT), st.just(PROMPT), JSON)
PICTURE = st.fixed_dictionaries({"filename": JSON | TEXT, "subfolder": JSON | TEXT, "type": JSON | TEXT})
OUTPUT = st.dictionaries(
    st.sampled_from(["images", "gifs", "text", "animated"]) | TEXT,
    st.lists(PICTURE | JSON, max_size=3) | JSON,
    max_size=2,
)
STATE = st.fixed_dictionaries(
    {"state": st.sampled_from(["running", "finished", "error"]) | JSON, "value": NUMBER, "max": NUMBER},
    optional={"display_node_id": NODE, "node_id": NODE},
)
FIELDS: dict[str, dict[str, Any]] = {
    "status": {
        "status": st.fixed_dictionaries({"exec_info": st.fixed_dictionaries({"queue_remaining": NUMBER})}) | JSON
    },
    "execution_start": {"timestamp": NUMBER},
    "execution_cached": {"nodes": st.lists(NODE, max_size=4) | JSON},
    "executing": {"node": NODE, "display_node": NODE},
    "progress": {"node": NODE, "value": NUMBER, "max": NUMBER},
    "progress_state": {"nodes": st.dictionaries(st.sampled_from(NODES) | TEXT, STATE | JSON, max_size=4) | JSON},
    "executed": {"node": NODE, "display_node": NODE, "output": OUTPUT | JSON},
    "execution_error": {
        "node_id": NODE,
        "node_type": TEXT,
        "exception_message": TEXT | JSON,
        "exception_type": TEXT | st.just("ExecutionBlocked") | JSON,
        "traceback": st.lists(TEXT, max_size=3) | JSON,
        "executed": st.lists(NODE, max_size=3) | JSON,
    },
    "execution_interrupted": {"node_id": NODE, "executed": JSON},
    "execution_success": {"timestamp": NUMBER},
}


def dumps(kind: Any, data: Any) -> bytes:
    """A text frame as a server writes it: NaN and lone surrogates and all."""
    return json.dumps({"type": kind, "data": data}).encode()


MESSAGES = st.one_of(
    *(
        st.builds(dumps, st.just(kind), st.fixed_dictionaries({}, optional={"prompt_id": IDS, **fields}))
        for kind, fields in FIELDS.items()
    ),
    *(
        st.builds(dumps, st.just(kind), st.fixed_dictionaries({"prompt_id": IDS, **fields}))
        for kind, fields in FIELDS.items()
    ),
    st.builds(dumps, TEXT, JSON),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=30),
)


def head(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + text


BINARY = st.one_of(
    st.builds(
        lambda node, text: b"\0\0\0\3" + head(node.encode()) + text, st.sampled_from(NODES), st.binary(max_size=9)
    ),
    st.builds(lambda text: b"\0\0\0\3" + head(b"2") + text.encode("utf-8", "replace"), TEXT),
    st.builds(lambda about: b"\0\0\0\4" + head(json.dumps(about).encode()) + b"image", JSON),
    st.builds(
        lambda node, kind: (
            b"\0\0\0\4"
            + head(json.dumps({"node_id": node, "prompt_id": PROMPT, "image_type": kind}).encode())
            + b"image"
        ),
        NODE,
        TEXT,
    ),
    st.binary(max_size=30),
)
QUEUE = st.fixed_dictionaries(
    {"queue_running": st.lists(JSON, max_size=2), "queue_pending": st.lists(JSON, max_size=2)}
)
ERRORS = st.dictionaries(
    st.sampled_from(NODES) | TEXT,
    st.fixed_dictionaries(
        {
            "errors": st.lists(
                st.fixed_dictionaries({"type": TEXT, "message": TEXT, "details": TEXT | JSON}), max_size=2
            ),
            "class_type": TEXT | JSON,
        }
    )
    | JSON,
    max_size=3,
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "outputs": st.dictionaries(st.sampled_from(NODES) | TEXT, OUTPUT | JSON, max_size=3) | JSON,
        "status": st.fixed_dictionaries(
            {
                "status_str": st.sampled_from(["success", "error"]) | JSON,
                "messages": st.lists(
                    st.tuples(
                        st.sampled_from(["execution_error", "execution_interrupted", "execution_cached"]) | TEXT,
                        st.fixed_dictionaries({**FIELDS["execution_error"], "nodes": st.lists(NODE, max_size=2)})
                        | JSON,
                    ),
                    max_size=3,
                ),
            }
        )
        | JSON,
        "prompt": st.tuples(NUMBER, TEXT, JSON | st.just(WORKFLOW), JSON, st.lists(NODE, max_size=2)) | JSON,
        "meta": st.dictionaries(st.sampled_from(NODES), st.fixed_dictionaries({"display_node": NODE}), max_size=2)
        | JSON,
    },
)


class Reporters:
    """All four built-in reporters, on a pipe and on a terminal, told directly."""

    def __init__(self, log: Any) -> None:
        self.view = RunView()
        self.plain, self.terminal, self.quiet = Plain(), Terminal(60), Plain()
        self.bytes = io.BytesIO()
        lines = Stream(io.TextIOWrapper(self.bytes, encoding="utf-8", newline="\n"), name="stdout", environ={})
        self.log = log
        self._all = [
            comfyreport_console.console(self.plain),
            comfyreport_console.console(self.terminal),
            comfyreport_jsonl.jsonl(lines, rate=0),
            comfyreport_filelog.filelog(log),
        ]

    def tell(self, event: Any) -> None:
        self.view.apply(event)
        for reporter in self._all:
            for hook, arguments in (
                ("event", {"event": event, "run": self.view}),
                (event.type, {"event": event, "run": self.view}),
                ("tick", {"elapsed": event.elapsed, "run": self.view}),
            ):
                self._call(reporter, hook, arguments)

    def close(self) -> None:
        for reporter in self._all:
            self._call(reporter, "close", {})

    def _call(self, reporter: Any, hook: str, arguments: dict[str, Any]) -> None:
        method = getattr(reporter, PREFIX + hook, None)
        if method is not None:
            names = method.__code__.co_varnames[1 : method.__code__.co_argcount]
            method(**{name: arguments[name] for name in names})


def fact_of(kind: str, said: Any, run: Run) -> Any:
    """What the wire's readers make of it."""
    if kind == "text":
        return decode.decode_text(said)
    if kind == "binary":
        return decode.decode_binary(said)
    body = decode.loads(json.dumps(said))
    if kind == "queue":
        return responses.read_queue(body)
    if kind == "history":
        return responses.read_history({PROMPT: body}, PROMPT)
    read = responses.read_accepted if kind == "accepted" else responses.read_refused
    return read(body, run.nodes.refs())


def feed(run: Run, script: list[tuple[str, Any]]) -> list[ev.Event]:
    """All events that a run makes of what a server says."""
    told: list[ev.Event] = []
    for number, (kind, said) in enumerate(script, 1):
        fact = fact_of(kind, said, run)
        if fact is not None:
            told += run.feed(fact, Instant(1000.0 + number, number / 10))
    return told


SCRIPT = st.lists(
    st.one_of(
        st.tuples(st.just("text"), MESSAGES),
        st.tuples(st.just("text"), MESSAGES),
        st.tuples(st.just("text"), MESSAGES),
        st.tuples(st.just("binary"), BINARY),
        st.tuples(st.just("queue"), QUEUE),
        st.tuples(st.just("accepted"), st.fixed_dictionaries({"prompt_id": IDS, "node_errors": ERRORS | JSON})),
    ),
    max_size=12,
)
LAST = st.one_of(
    st.none(),
    st.tuples(st.just("history"), ENTRY),
    st.tuples(st.just("refused"), st.fixed_dictionaries({"error": JSON | TEXT, "node_errors": ERRORS | JSON})),
)


@given(SCRIPT, LAST, st.booleans())
@example([("text", dumps("executing", {"node": "\x1b[2J", "prompt_id": PROMPT}))], ("history", {}), True)
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_a_server_says(
    tmp_path_factory: pytest.TempPathFactory, script: list[tuple[str, Any]], last: Any, missed: bool
) -> None:
    run = Run(PROMPT, responses.manifest_of(WORKFLOW), base_url="http://x", previews=True)
    run.sent, run.missed_messages = True, missed
    reporters = Reporters(tmp_path_factory.mktemp("log") / "run.log")
    at = Instant(1000.0, 0.0)
    started = ev.StreamStarted(
        seq=0, time=at.time, elapsed=0.0, comfyreport="0", command="run", server="http://x", reporters=(), runs_total=1
    )
    told: list[ev.Event] = [started, *feed(run, script + ([last] if last is not None else []))]
    if run.verdict is None:
        error = ev.ErrorInfo(code="server_gone", message="gone")
        run.conclude(Verdict("lost", error, "unknown", "yes"))
    end = run.finish(Instant(2000.0, 100.0))
    result = end[-1]
    assert isinstance(result, ev.RunFinished)
    last_event = ev.StreamFinished(
        seq=result.seq + 1, time=2000.0, elapsed=100.0, status=result.status, exit_code=result.exit_code, runs=1,
        failed=int(result.exit_code != 0), reporter_failures=(),
    )  # fmt: skip
    told += [*end, last_event]
    for event in told:
        reporters.tell(event)
        assert_printable("\n".join(describe_event(event)))
    reporters.close()
    assert result.status != "internal"
    lines = read_lines(reporters.bytes.getvalue())
    assert len(lines) == len(told)
    assert_printable(reporters.bytes.getvalue().decode())
    assert_printable(reporters.plain.text)
    assert_printable(reporters.log.read_text(encoding="utf-8"))
    assert reporters.terminal.screen
    fractions = [line["fraction"] for line in lines if "fraction" in line]
    assert fractions == sorted(fractions)
    assert all(0 < line["step"] <= line["max_steps"] for line in lines if line["type"] == "node_progress")
