"""The `html` reporter: one file that shows the runs of a command in a browser, offline."""

from __future__ import annotations

import base64
import hashlib
import json
import platform
from datetime import datetime
from pathlib import Path
from typing import Any

from comfyreport import (
    Histories,
    NodePreview,
    OutputSaved,
    ReporterError,
    RunFinished,
    RunHistory,
    RunView,
    StreamStarted,
    Thumbnails,
    Warning,  # noqa: A004  the event's name
    describe_event,
    describe_inputs,
    describe_result,
    format_bytes,
    format_seconds,
    format_speed,
    hookimpl,
    link_to,
    printable,
    run_origin,
    saved_path,
    server_name,
    write_whole,
)

_ROWS, _CURVES, _OUTPUTS, _TEXT = 1000, 12, 500, 4000  # most of a run's nodes, curves, outputs; characters of a text
_DETAILED, _LISTED = 200, 10_000  # runs that are told of in full; that have a line
_NOTES = 200  # warnings about all runs
_PAUSE = 30.0  # seconds between two versions of a report that grows
_MARKS = {"success": "ok", "partial": "warn", "cancelled": "warn", "detached": "warn"}


class Report(Histories):
    """Makes a page of what was told of each run, at its end: at most twice a minute, and when all is over."""

    def __init__(self, path: Path, max_bytes: int, page: Any, part: Any) -> None:
        super().__init__()
        self._path, self._room, self._page, self._part = path, max_bytes, page, part
        self._start = StreamStarted(seq=0, time=0.0, elapsed=0.0)
        self._thumbnails = Thumbnails()
        self._saved: dict[tuple[int | None, str, int], str] = {}
        self._ended: list[dict[str, Any]] = []
        self._written, self._next = -1, 0.0
        self._told = self._count = self._good = 0
        self._notes: list[tuple[float, str]] = []

    @hookimpl
    def comfyreport_stream_started(self, event: StreamStarted) -> None:
        """Keep what the page says of the command."""
        self._start = event

    @hookimpl
    def comfyreport_warning(self, event: Warning) -> None:
        """Keep it with its run, or with the command if it is about all of its runs."""
        if event.run_index is not None or self._start.runs_total == 1:
            self.history(event).apply(event)
        elif len(self._notes) < _NOTES:
            self._notes.append((event.elapsed, describe_event(event)[0].partition("] ")[2]))

    @hookimpl
    def comfyreport_output_saved(self, event: OutputSaved) -> None:
        """Make a small picture of a saved one."""
        output, path = event.output, saved_path(event.output)
        if output.kind == "image" and path is not None and len(self._saved) < _OUTPUTS:
            self._saved[event.run_index, output.node.id, output.index] = self._thumbnails.url(path, 320)

    @hookimpl
    def comfyreport_run_finished(self, event: RunFinished, run: RunView) -> None:
        """Make the part about this run, if there is room for it; else the index alone tells of it."""
        history = self.history(event)
        history.apply(event)
        saved = {key[1:]: self._saved.pop(key) for key in list(self._saved) if key[0] == event.run_index}
        told = _told(event, run, history, self._thumbnails)
        environment = {"start": self._start, "python": platform.python_version(), "system": platform.platform()}
        # Without its pictures, too, a run is worth telling of.
        part, picture, size = "", "", self._room + 1
        for shown, lean in ((saved, False), ({}, True)) if self._told < _DETAILED else ():
            part = self._part.render(told, saved=shown, lean=lean, folder=self._path.parent, **environment)
            picture = next(iter(shown.values()), "")
            if (size := len(part.encode()) + len(picture)) <= self._room:
                break
        more = {"part": part, "picture": picture} if size <= self._room else {}
        self._room -= size if more else 0
        self._told += bool(more)
        small = {name: told[name] for name in ("headline", "mark", "number", "file")}
        about = {"inputs": describe_inputs(event.inputs), "server": server_name(event.server)}
        self._count += 1
        self._good += told["mark"] == "ok"
        if len(self._ended) < _LISTED:
            self._ended.append({"status": event.status, "seed": event.seed, **small, **about, **more})
        self._thumbnails = Thumbnails()
        if event.elapsed >= self._next:
            self._next = event.elapsed + _PAUSE
            self._write()

    @hookimpl
    def comfyreport_close(self) -> None:
        """Write what isn't in the file yet."""
        if self._written < self._count:
            self._write()

    def _write(self) -> None:
        # In the order of their numbers, whichever ended first.
        runs = sorted(self._ended, key=lambda run: run["number"])
        counts = {"start": self._start, "good": self._good, "count": self._count, "notes": self._notes}
        page = self._page.render(runs=runs, **counts, style=_STYLE, script=_SCRIPT, digest=_DIGEST)
        write_whole(self._path, page.encode())
        self._written = self._count


class ReportWithPreviews(Report):
    """A report that has previews, too: a server makes them only if somebody has this hook."""

    @hookimpl
    def comfyreport_node_preview(self, event: NodePreview) -> None:
        """Keep some of them."""
        self.history(event).apply(event)


def _told(event: RunFinished, run: RunView, history: RunHistory, thumbnails: Thumbnails) -> dict[str, Any]:
    """What the page tells of a run."""
    origin, kept = run_origin(run), history.rows(run)
    slowest = sorted(kept, key=lambda row: -(row.time.seconds or 0.0))
    shown = {id(row) for row in slowest[:_ROWS]}
    rows = [row for row in kept if id(row) in shown]
    frames = [list(filter(None, (thumbnails.url(each.image, 192) for each in row.previews))) for row in rows]
    return {
        "event": event,
        "number": event.run_index or 1,
        "mark": _MARKS.get(event.status, "bad"),
        "headline": describe_result(event)[0].partition("] ")[2],
        "file": Path(event.workflow or "").name,
        "ended": datetime.fromtimestamp(event.time).astimezone().isoformat(" ", "seconds"),
        "span": max(event.elapsed - origin, 1e-6),
        "rows": [(f"row{event.run_index or 1}-{at}", row, frames[at]) for at, row in enumerate(rows)],
        "slowest": slowest,
        "idle": len(run.nodes) - len(kept),
        "curves": [row for row in slowest if row.rates][:_CURVES],
        # What is replayed may have been saved elsewhere, long ago.
        "outputs": [(o, at if (at := saved_path(o)) and at.exists() else None) for o in event.outputs[:_OUTPUTS]],
        "notes": [(note.elapsed - origin, note.text) for note in history.notes],
    }


def html(path: Path, *, previews: bool = True, max_mb: float = 20.0) -> Report:
    """A report for the browser in one file: verdict, pictures, timeline, speed, inputs, errors.

    :param previews: pictures of work in progress too, which the server is asked for then
    :param max_mb: megabytes of the file; of runs that it has no room for, the index alone tells
    """
    if not max_mb > 0:
        raise ReporterError(f"html: max_mb={max_mb} can't be used", hint="give the megabytes that it may have")
    try:
        from jinja2 import Environment
        from markupsafe import escape

        Thumbnails()
    except ImportError as error:
        message = f"reporter html needs a package that isn't installed ({error.name})"
        raise ReporterError(message, hint='pip install "comfyreport[html]"') from error
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    # Before its escaping: escapes for what no reader should see, and not too long.
    environment.finalize = lambda each: each if hasattr(each, "__html__") or each is None else printable(each, _TEXT)
    # Links aren't shortened as texts are: half of one leads nowhere.
    links = {"link": lambda to, folder: escape(link_to(to, folder)), "whole": lambda url: escape(printable(url, 9999))}
    environment.filters.update(links, seconds=format_seconds, speed=format_speed, size=format_bytes)
    environment.filters["text"] = lambda value: (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    )
    page, part = environment.from_string(_PAGE), environment.from_string(_PART)
    return (ReportWithPreviews if previews else Report)(path, int(max_mb * 1e6), page, part)


_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#57606a;--line:#d0d7de;--card:#f6f8fa;--run:#0969da;
--ok:#1a7f37;--warn:#8a5a00;--bad:#c4232c}@media(prefers-color-scheme:dark){:root{--bg:#0d1117;--fg:#e6edf3;
--dim:#9ea7b3;--line:#3d444d;--card:#161b22;--run:#58a6ff;--ok:#3fb950;--warn:#d29922;--bad:#ff7b72}}
*{box-sizing:border-box}body{margin:0 auto;padding:1rem;max-width:76rem;overflow-wrap:anywhere;background:var(--bg);
color:var(--fg);font:1rem/1.5 system-ui,sans-serif}h1{font-size:1.4rem;margin:.2rem 0}summary h2{display:inline}
h2,h3{font-size:1.2rem;margin:1.4rem 0 .4rem}details{margin:1rem 0}a,button{color:var(--run)}.ok{--m:var(--ok)}
.warn{--m:var(--warn)}.bad{--m:var(--bad)}.dim,small,dt,caption,figcaption span{color:var(--dim)}
small,caption,pre,button{font-size:.85rem}.mark{border:1px solid;border-radius:1rem;padding:0 .6rem;color:var(--m);
font-weight:600}.box,figure,.film{border:1px solid var(--line);border-radius:.4rem;background:var(--card);padding:.5rem;
margin:0}.box{border-left:.3rem solid var(--m);padding:.2rem 1rem;margin:1rem 0}dd{margin:0 0 .5rem}.grid{display:grid;
gap:.8rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,var(--w,11rem)),1fr))}figure img{display:block;
width:100%;height:11rem;object-fit:contain}pre{max-height:24rem;overflow:auto;margin:.4rem 0;white-space:pre-wrap}
figcaption span{display:block;font-size:.85rem}table{width:100%;border-collapse:collapse;text-align:left}
caption{text-align:left}th,td{padding:.2rem .5rem;vertical-align:top;border-bottom:1px solid var(--line);
font-weight:400}thead th{position:sticky;top:0;z-index:1;background:var(--bg);font-weight:600;white-space:nowrap}
.n{text-align:right;white-space:nowrap}.axis{margin:0;display:flex;justify-content:space-between;font-weight:400}
.times .lane{position:relative;width:40%;padding:.2rem 0}.lane i,.lane b{height:1.1rem;border-radius:2px}
.lane i{position:absolute;top:.4rem;min-width:3px;background:var(--run)}.lane i.cut{background:var(--bad)}
.lane b{display:block;padding-left:.4rem;font:.8rem system-ui;color:var(--dim);
background:repeating-linear-gradient(135deg,var(--card) 0 6px,var(--line) 6px 7px)}.film{display:none;position:absolute;
z-index:2;top:1.5rem;width:100%;gap:.3rem;grid-template-columns:repeat(auto-fill,minmax(5rem,1fr));
box-shadow:0 .3rem 1rem #0006}.film img{width:100%}tr:hover>.lane .film,.open>.lane .film{display:grid}
.shut .film{display:none!important}button{font-family:inherit;background:none;border:1px solid;border-radius:.3rem;
cursor:pointer}svg{display:block;width:100%;height:7rem;border:solid var(--line);border-width:0 0 1px 1px}
path{fill:none;stroke:var(--run);stroke-width:2;vector-effect:non-scaling-stroke}.hidden{position:absolute;width:1px;
height:1px;overflow:hidden;clip-path:inset(50%)}@media(max-width:45rem){.times tr{display:flex;flex-wrap:wrap;
border-bottom:1px solid var(--line)}.times td,.times th{border:0}.times tbody th,.times .lane{width:100%}
.times .lane{min-height:1.7rem}.times td.n:empty,.times thead .s{display:none}.u::before{content:"usually "}}
"""

_SCRIPT = """
const shut = on => document.body.classList.toggle("shut", on);
const toggle = (row, on) => { row.classList.toggle("open", on); row.querySelector("button").ariaExpanded = on; };
const close = kept => document.querySelectorAll(".open").forEach(row => row == kept || toggle(row, false));
const show = (at = document.querySelector(":target")) => { for (; at; at = at.parentElement) at.open = true; };
const sort = (button, body = button.closest("table").tBodies[0]) => {
  const slow = button.ariaPressed != "true", by = row => slow ? -row.dataset.s : row.dataset.at;
  [...body.rows].sort((a, b) => by(a) - by(b)).forEach(row => body.append(row)), button.ariaPressed = slow; };
addEventListener("hashchange", () => show()), addEventListener("mouseout", () => shut(false));
addEventListener("keydown", event => event.key == "Escape" && (close(), shut(true)));
addEventListener("click", event => {
  const button = event.target.closest("button"), row = button?.closest("tbody tr");
  shut(false), close(row);
  if (row) toggle(row, !row.classList.contains("open")); else if (button) sort(button);
}), show();
"""
_DIGEST = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline';
script-src 'sha256-{{ digest }}'; base-uri 'none'; form-action 'none'"><link rel="icon" href="data:,">
{% set several = count > 1 or start.runs_total > 1 %}
{% set title = good ~ " of " ~ count ~ " runs succeeded" if several else runs[0].headline if runs else "No run" %}
<title>{{ runs[0].file ~ ": " if runs and runs[0].file }}{{ title }}</title><style>{{ style|safe }}</style></head><body>
<main><h1>{{ title }}</h1>{% if several %}
<h2>Runs</h2><table><thead><tr><th scope="col">Run<th scope="col">How it ended<th scope="col">Picture</thead><tbody>
{% for run in runs %}
<tr class="{{ run.mark }}"><th scope="row" class="n">{% if run.part or count <= 200 %}
<a href="#run{{ run.number }}">Run {{ run.number }}</a>{% else %}Run {{ run.number }}{% endif %}

<td><span class="mark">{{ run.status }}</span> {{ run.headline }}{{ ", seed %d"|format(run.seed) if run.seed != none
}}{% if run.inputs or run.server %} <small>{{ run.inputs }} {{ run.server }}</small>{% endif %}
<td>{% if run.picture %}<img src="{{ run.picture|safe }}" alt="its first picture" width="96">{% endif %}
{% endfor %}{% if count > runs|length %}<tr><th><td>and {{ count - runs|length }} more{% endif %}
</tbody></table>{% if notes %}<section class="box warn"><h2>Warnings</h2><ul>
{% for at, text in notes %}<li>{{ text }} <small>at {{ at|seconds }}</small>{% endfor %}</ul></section>{% endif %}
{% endif %}
{% for run in runs if run.part or count <= 200 %}{% set first = loop.first or run.mark == "bad" and loop.length < 9 %}
{% if several %}<details id="run{{ run.number }}"{{ " open" if first }}>
<summary><h2>Run {{ run.number }}: {{ run.headline }}</h2></summary>{% endif %}
{{ (run.part or "<p>The file has no room for more of this run.</p>")|safe }}{{ "</details>"|safe if several }}
{% endfor %}</main><script>{{ script|safe }}</script></body></html>
"""

_PART = """{% set h = "h3" if event.run_index else "h2" %}
{% macro name(node) %}{{ node.title or node.name }} <small>
{{ node.class_type if node.class_type != node.title }} #{{ node.id }}</small>{% endmacro %}
{% macro lines(text) %}{% for line in text.splitlines()[:200] %}{{ line }}
{% endfor %}{% endmacro %}
<p class="dim {{ mark }}"><span class="mark">{{ event.status }}</span> {{ file ~ ", " if file }}{{ ended }},
{{ "a replay, " if start.command == "replay" }}exit code {{ event.exit_code
}}{% if event.queue_seconds and event.queue_seconds > 0.5 %}, {{ event.queue_seconds|seconds }} in the queue{% endif %}
{% if event.error %}{% set error = event.error %}
<section class="box bad"><{{ h }}>Error</{{ h }}>{% if error.node %}<p>In {{ name(error.node) }}{% endif %}
<p>{{ error.exception_type or error.code }}<pre tabindex="0">{{ lines(error.message) }}</pre>
{% for each in error.node_errors[:50] %}<p>{{ name(each.node) }}: {{ each.message or each.type }} {{ each.details }}
{% endfor %}{% if error.hint %}<p><b>Next:</b> {{ error.hint }}{% endif %}
{% if error.traceback %}<details open><summary>Traceback</summary><pre tabindex="0">
{% for entry in error.traceback %}{{ lines(entry) }}{% endfor %}</pre></details>{% endif %}</section>{% endif %}
{% if notes %}<section class="box warn"><{{ h }}>Warnings</{{ h }}><ul>
{% for at, text in notes %}<li>{{ text }} <small>at {{ at|seconds }}</small>{% endfor %}</ul></section>{% endif %}
{% set previewed = [] if lean else rows|selectattr(2)|list %}{% if outputs or previewed %}
<section><{{ h }}>Outputs</{{ h }}><div class="grid">{% for output, path in outputs %}
{% set url = output.url if (output.url or "").startswith(("http://", "https://")) else "" %}
{% set href, picture = path|link(folder) if path else url|whole, saved.get((output.node.id, output.index)) %}
<figure>{% if picture %}<a href="{{ href }}"><img src="{{ picture|safe }}" alt="{{ output.filename }}"></a>{% endif %}
{% if output.value is not none %}<pre tabindex="0">{{ lines(output.value|text) }}</pre>{% endif %}
<figcaption>{% if href %}<a href="{{ href }}">{{ path.name if path else output.filename or "file" }}</a>{% endif %}
{% set kind = "temporary " ~ output.kind if output.folder == "temp" else output.kind %}
<span>{{ kind }}{{ ", " ~ output.bytes|size if output.bytes is not none }}{{ ", cached" if output.cached }},
from {{ output.node.title or output.node.name }}</span></figcaption></figure>{% endfor %}
{% for id, row, frames in previewed %}<figure><img src="{{ frames[-1]|safe }}" alt="{{ row.node.title }}"><figcaption>
<a href="#{{ id }}">last preview</a><span>from {{ row.node.title }}</span></figcaption></figure>{% endfor %}</div>
{% if event.outputs|length > outputs|length %}<p>and {{ event.outputs|length - outputs|length }} more{% endif %}
</section>{% endif %}
{% if rows %}<section><{{ h }}>Timeline</{{ h }}><table class="times"><caption>
{{ slowest|length }} nodes in {{ span|seconds }}.
 {{ "Longest: %s."|format(slowest[0].node.title) if slowest[0].time.seconds }}
 {{ "%d more didn't run."|format(idle) if idle > 0 }} Bars that overlap ran side by side.
 {{ "The quickest %d aren't shown."|format(slowest|length - rows|length) if slowest|length > rows|length }}</caption>
<thead><tr><th scope="col">Node<th scope="col" class="lane"><span class="axis">
<span>0s</span><span>{{ (span / 2)|seconds }}</span><span>{{ span|seconds }}</span></span><th scope="col" class="n">Time
<button type="button" aria-pressed="false">slowest first</button><th scope="col" class="n s">Share
<th scope="col" class="n s">Speed<th scope="col" class="n s">Usual</thead><tbody>
{% for id, row, all in rows %}{% set time, state, frames = row.time, row.node.state, [] if lean else all %}
<tr id="{{ id }}" data-at="{{ loop.index }}" data-s="{{ time.seconds or 0 }}"><th scope="row">{{ name(row.node.ref) }}
{% if frames %}<button type="button" aria-expanded="false">{{ frames|length }} previews</button>{% endif %}
<td class="lane">{% if state == "cached" %}<b>cached</b>{% endif %}{% for bar in row.spans %}
<i{{ "" if bar.finished else " class=cut" }} style="left:{{ (100 * bar.start / span)|round(2) }}%;
width:{{ (100 * (bar.end - bar.start) / span)|round(2) }}%"></i>{% endfor %}{% if row.spans %}
<span class="hidden">{{ row.spans[0].start|seconds }} to {{ row.spans[-1].end|seconds }}</span>{% endif %}
{% if frames %}<div class="film">{% for frame in frames %}
<img src="{{ frame|safe }}" alt="{{ row.node.title }}, preview {{ loop.index }}">{% endfor %}</div>{% endif %}
{% set seconds = "" if state == "cached" or time.seconds is none else time.seconds|seconds %}
<td class="n">{{ "not finished" if state == "running" else seconds }}
<td class="n">{{ "%.0f %%"|format(100 * time.share) if time.share and seconds }}
<td class="n">{{ time.steps_per_second|speed }}
<td class="n{{ " u" if time.usual_seconds }}">{{ time.usual_seconds|seconds if time.usual_seconds }}</td>
{% endfor %}</tbody></table></section>{% endif %}
{% if curves %}<section><{{ h }}>Steps per second</{{ h }}><div class="grid" style="--w:26rem">{% for row in curves %}
{% set speeds = row.rates|map(attribute="steps_per_second")|list %}{% set most = speeds|max or 1 %}
<figure><figcaption>{{ name(row.node.ref) }}<span>{{ speeds|min|speed }} to {{ most|speed }}</span></figcaption>
<svg viewBox="0 0 {{ span }} 1" preserveAspectRatio="none" aria-hidden="true"><path d="{% for rate in row.rates %}
{{ "L" if loop.previtem and loop.previtem.end == rate.start else "M" }}{{ rate.start|round(4) }} {{
(1 - 0.95 * rate.steps_per_second / most)|round(4) }}H{{ rate.end|round(4) }}{% endfor %}"/></svg>
<p class="axis dim"><span>0s</span><span>{{ span|seconds }}</span></figure>{% endfor %}</div></section>{% endif %}
{% if event.inputs %}<section><{{ h }}>Inputs that were set</{{ h }}><dl>{% for each in event.inputs %}
<dt>{{ name(each.node) }} {{ each.name }}<dd>{{ lines(each.value|text) }}{% endfor %}</dl></section>{% endif %}
<section><{{ h }}>Environment</{{ h }}><dl><dt>Server<dd>{{ event.server or start.server or "none" }}
<dt>Prompt<dd>{{ event.prompt_id or "none" }}{% if event.seed != none %}<dt>Seed<dd>{{ event.seed }}{% endif %}
<dt>Made by<dd>comfyreport {{ start.comfyreport }} {{ start.command }}, Python {{ python }}, {{ system }}</dl></section>
"""
