"""What the editor's old primitive nodes do: their value replaces that of the widgets that they are linked to. Pure.

Sources: PrimitiveNode.applyToGraph in ComfyUI_frontend src/extensions/core/widgetInputs.ts; useIntWidget.ts and
useFloatWidget.ts for how a widget rounds what it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

from comfyreport.workflow.convert.classes import Widget
from comfyreport.workflow.convert.editor import Graph
from comfyreport.workflow.convert.nodes import PRIMITIVE, Nodes, Prepared
from comfyreport.workflow.convert.refusals import refused
from comfyreport.workflow.convert.texts import copied

_REPLACE = "Run widget replace on values"


class Fed(NamedTuple):
    """A widget that a primitive feeds; None where the link leads to what has no widget."""

    node: Prepared
    widget: Widget | None


def fed_by(graph: Graph, nodes: Nodes, primitive: Prepared) -> list[Fed]:
    """What *primitive* is linked to, in the order of its links; links to what isn't there are left out."""
    return list(_fed(graph, nodes, primitive))


def _fed(graph: Graph, nodes: Nodes, primitive: Prepared) -> Iterator[Fed]:
    for link_id in primitive.node.output_links[0] if primitive.node.output_links else ():
        link = graph.links.get(link_id)
        target = nodes.get(link.target) if link is not None else None
        if target is not None:
            slot = next((each for each in target.inputs if each.link == link_id), None)
            if slot is not None:
                yield Fed(target, target.widgets.get(slot.widget or slot.name))


def apply_primitives(graph: Graph, nodes: Nodes, replace: Callable[[str], str]) -> None:
    """Give the values of the primitives in *graph* to the widgets that they feed; *replace* fills in `%…%`."""
    for primitive in nodes.values():
        if primitive.node.kind != PRIMITIVE:
            continue
        fed = fed_by(graph, nodes, primitive)
        targets = [(node, widget) for node, widget in fed if widget is not None]
        if not targets:
            continue
        value = _value(primitive, fed[0], [widget for _, widget in targets])
        if value and isinstance(value, str) and primitive.node.properties.get(_REPLACE):
            value = replace(value)
        for node, widget in targets:
            node.values[widget.name] = rounded(copied(value), widget)


def _value(primitive: Prepared, first: Fed, widgets: list[Widget]) -> Any:
    stored = primitive.node.stored
    if isinstance(stored, (list, tuple)) and stored:
        value = stored[0]
    elif first.widget is not None and first.widget.name in first.node.values:
        value = first.node.values[first.widget.name]
    else:
        raise refused(primitive.place, "it holds no value", "Link it once more, or remove it")
    if len(widgets) > 1 and _is_number(value) and all(widget.kind in ("INT", "FLOAT") for widget in widgets):
        # What it takes is what all that it feeds take.
        low = [widget.options["min"] for widget in widgets if _is_number(widget.options.get("min"))]
        high = [widget.options["max"] for widget in widgets if _is_number(widget.options.get("max"))]
        value = min([max([value, *low]), *high])
    return value


def rounded(value: Any, widget: Widget) -> Any:
    """*value* as a widget for numbers keeps it when it is given it: on its steps, a FLOAT within its limits, too."""
    if not _is_number(value):
        return value
    if widget.kind == "INT":
        return _on_steps(value, widget)
    if widget.kind == "FLOAT":
        return _in_digits(value, widget)
    return value


def _on_steps(value: float, widget: Widget) -> Any:
    step = _number(widget, "step", 1) or 1
    if isinstance(value, int) and step == 1:
        return value
    offset = math.fmod(_number(widget, "min", 0), step) if step != 1 else 0
    result = math.floor((value - offset) / step + 0.5) * step + offset
    return int(result) if result == int(result) else result


def _in_digits(value: float, widget: Widget) -> Any:
    step = _number(widget, "step", 0.5)
    precision = max(0, -math.floor(math.log10(step))) if step > 0 else 0
    unit = _number(widget, "round", 0) or (10.0**-precision if precision else 0)
    if not unit:
        return value
    digits = precision if step > 0 else max(0, -math.floor(math.log10(unit)))
    exact = Decimal(math.floor(value / unit + 0.5) * unit)
    result = float(exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))
    return min(max(result, _number(widget, "min", 0)), _number(widget, "max", 2048))


def _number(widget: Widget, name: str, otherwise: float) -> float:
    value = widget.options.get(name)
    return value if isinstance(value, (int, float)) and _is_number(value) else otherwise


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
