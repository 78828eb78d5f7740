"""What isn't the command's alone: many reporters, memory, and the size of an installation."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import timeit
from pathlib import Path

from tests.benchmarks.clients import ours
from tests.benchmarks.running import ROOT, Bench, BenchError, Spent, clean, median
from tests.benchmarks.table import Row

MANY = 10
MIB = 1024 * 1024
ALLOWED_GROWTH = 2.0
PACKAGE = "comfyreport_bench_noop"

SOURCE = '''\
"""Reporters that do nothing; the counting one writes at its end how many events it was told."""

from pathlib import Path

from comfyreport import hookimpl


class Noop:
    @hookimpl
    def comfyreport_event(self, event):
        pass


class Counting:
    def __init__(self, path):
        self.path, self.count = path, 0

    @hookimpl
    def comfyreport_event(self, event):
        self.count += 1

    @hookimpl
    def comfyreport_close(self):
        self.path.write_text(str(self.count))


def noop():
    return Noop()


def counting(path: Path):
    return Counting(path)
'''


def _package(folder: Path) -> Path:
    """A distribution with the reporters above, as pip would leave it; its folder for PYTHONPATH."""
    site = folder / "site"
    info = site / f"{PACKAGE}-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (site / f"{PACKAGE}.py").write_text(SOURCE, encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n", encoding="utf-8")
    points = [f"noop{number} = {PACKAGE}:noop" for number in range(1, MANY)]
    lines = ["[comfyreport]", f"counting = {PACKAGE}:counting", *points]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return site


def ten(bench: Bench) -> list[Row]:
    """What each further reporter adds to an event, against what the core itself spends on one."""
    count = 2_000 if bench.short else 100_000
    told = bench.folder / "count"
    bench = Bench(
        bench.folder, bench.repeat, bench.short, bench.peers,
        {**bench.environ, "PYTHONPATH": str(_package(bench.folder))},
    )  # fmt: skip
    one = [f"counting={told}"]
    many = [*one, *(f"noop{number}" for number in range(1, MANY))]
    with bench.server("flood", count) as large, bench.server("flood", 1) as small:
        clients = {
            "one": ours(bench, large, *one),
            "many": ours(bench, large, *many),
            "start one": ours(bench, small, *one),
            "start many": ours(bench, small, *many),
        }
        seen: dict[str, int] = {}

        def counted(name: str) -> Spent:
            spent = clients[name]()
            seen[name] = int(told.read_text())
            return spent

        spent = bench.several({name: lambda name=name: counted(name) for name in clients})  # type: ignore[misc]
    events = min(seen["one"], seen["many"])
    if events < count:
        raise BenchError(f"the reporters were told {events} events of {count}")
    core = (median(spent["one"]) - median(spent["start one"])) / events
    rest = (median(spent["many"]) - median(spent["start many"])) / events
    each = (rest - core) / (MANY - 1)
    own = min(timeit.repeat("noop(None, None)", "def noop(self, event): pass", number=100_000)) / 100_000
    ratio = (each - own) / core
    what = f"a further reporter of {MANY}, for each event, without its own {own * 1e6:.2f} µs (floor: the core)"
    added, floor = f"{(each - own) * 1e6:.2f} µs", f"{core * 1e6:.2f} µs"
    return [Row(what, added, floor, f"{ratio:.2f}", "at most 0.1", not bench.short and ratio > 0.1)]


def _own_peak() -> float:
    """The largest resident set of this very program, which its children are counted with up to their exec."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return float(status.partition("VmHWM:")[2].split()[0]) / 1024


def memory(bench: Bench) -> list[Row]:
    """The largest resident set, which must not depend on how many messages came."""
    few, many = (1_000, 20_000) if bench.short else (100_000, 1_000_000)
    out = "/dev/null"
    rows = []
    for what, reporter in {"the default rate": f"jsonl={out}", "`rate=0`": f"jsonl={out},rate=0"}.items():
        peaks = {}
        for count in (few, many):
            with bench.server("flood", count) as server:
                times = 1 if count == many else bench.repeat
                client = ours(bench, server, reporter)
                peaks[count] = statistics.median(client().peak for _ in range(times))
        large, small = f"{peaks[many]:.1f} MiB", f"{peaks[few]:.1f} MiB"
        ratio = peaks[many] / peaks[few]
        if min(peaks.values()) < _own_peak() + 1:
            raise BenchError("this runner is larger than its client, whose memory can't be told so (getrusage(2))")
        missed = not bench.short and (peaks[many] > 60 or peaks[many] - peaks[few] > ALLOWED_GROWTH)
        target = f"at most 60 MiB, at most {ALLOWED_GROWTH:g} MiB more"
        line = f"peak memory, {many:,} messages, {what} (floor: {few:,} messages)"
        rows.append(Row(line, large, small, f"{ratio:.2f}", target, missed))
    return rows


def installed(bench: Bench) -> list[Row]:
    """The core and its dependencies as pip installs them, compiled files included."""
    if bench.short:
        return []
    copy, target = bench.folder / "project", bench.folder / "installed"
    copy.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, copy / name)
    for name in ("comfyreport", "plugins"):
        unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, copy / name, ignore=unwanted)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    words = [*pip, "--target", str(target), str(copy)]
    made = subprocess.run(
        words, env=clean(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=600
    )
    if made.returncode:
        raise BenchError(f"pip: {' '.join(made.stderr.strip().splitlines()[-1:])}")
    packages = len(list(target.glob("*.dist-info")))
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file()) / MIB
    sources = sum(file.stat().st_size for file in target.rglob("*") if file.is_file() and file.suffix != ".pyc") / MIB
    told = f"{size:.1f} MiB ({sources:.1f} without `.pyc`), {packages} packages"
    missed = size >= 10 or packages > 12
    return [Row("the core and its dependencies, installed", told, target="under 10 MiB, at most 12", missed=missed)]
