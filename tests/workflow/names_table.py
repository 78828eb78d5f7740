"""`python -m tests.workflow.names_table`: the short names' inputs in many workflows, beside what was judged by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from comfyreport.workflow.files import load
from comfyreport.workflow.names import NAMES, find

DATA = Path(__file__).parents[1] / "data"
GRAPHS = DATA / "graphs"
EXPECTED: dict[str, dict[str, Any]] = json.loads((DATA / "expected_inputs.json").read_text("utf-8"))


class Row(NamedTuple):
    """One name in one workflow: `result` is right, refused (though it has a place) or wrong."""

    graph: str
    name: str
    result: str
    found: tuple[str, ...]
    expected: tuple[str, ...]


def rows() -> Iterator[Row]:
    for graph_name, names in EXPECTED.items():
        graph = load(GRAPHS / f"{graph_name}.json").graph
        for name in NAMES:
            judged = names.get(name, [])
            expected = tuple(sorted(judged)) if isinstance(judged, list) else ()
            found = tuple(sorted(f"{target.node}.{target.name}" for target in find(graph, name).targets))
            result = "right" if found == expected else "wrong" if found else "refused"
            yield Row(graph_name, name, result, found, expected)


def main() -> None:
    """Print the table, and each row that isn't right."""
    table = list(rows())
    print(f"{'name':10} {'graphs':>6} {'right':>6} {'refused':>8} {'wrong':>6}")
    for name in (*NAMES, "all"):
        of_name = [row.result for row in table if name in (row.name, "all")]
        counts = [of_name.count(result) for result in ("right", "refused", "wrong")]
        print(f"{name:10} {len(of_name):6} {counts[0]:6} {counts[1]:8} {counts[2]:6}")
    for row in table:
        if row.result != "right":
            print(f"{row.result}: {row.graph} {row.name}: found {row.found or '-'}, expected {row.expected or '-'}")


if __name__ == "__main__":
    main()
