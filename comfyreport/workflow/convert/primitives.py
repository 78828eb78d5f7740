"""What the editor's old primitive nodes do: their value replaces that of the widgets that they are linked to. Pure.

Sources: PrimitiveNode.applyToGraph in ComfyUI_frontend src/extensions/core/widgetInputs.ts; useIntWidget.ts and
useFloatWidget.ts for how a widget rounds what it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, NamedTuple

from comfyreport.workflow.convert.classes import Widget
from comfyreport.workflow.convert.editor import Graph
from comfyreport.workflow.convert.nodes import PRIMITIVE, Nodes, Prepared
from comfyreport.workflow.convert.refusals import refused, shown
from comfyreport.workflow.convert.texts import copied, is_number
from comfyreport.workflow.convert.values import held

_ALL_DIGITS = Context(prec=1000)
_REPLACE = "Run widget replace on values"
# What two widgets may declare differently and still be fed by one primitive.
_OWN = frozenset((
    "min", "max", "step", "default", "forceInput", "defaultInput", "control_after_generate", "multiline", "tooltip",
    "dynamicPrompts",
))  # fmt: skip


class Fed(NamedTuple):
    """A widget that a primitive feeds; None where the link leads to what has no widget."""

    node: Prepared
    widget: Widget | None


def fed_by(graph: Graph, nodes: Nodes, primitive: Prepared) -> Iterator[Fed]:
    """What *primitive* is linked to, in the order of its links; links to what isn't there are left out."""
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
        fed = list(fed_by(graph, nodes, primitive))
        targets = [(node, widget) for node, widget in fed if widget is not None]
        if not targets:
            continue
        value = _value(primitive, fed[0], [widget for _, widget in targets])
        if value and isinstance(value, str) and primitive.node.properties.get(_REPLACE):
            value = replace(value)
        for node, widget in targets:
            node.values[widget.name] = held(widget, rounded(copied(value), widget))


def _value(primitive: Prepared, first: Fed, widgets: list[Widget]) -> Any:
    stored = primitive.node.stored
    if isinstance(stored, (list, tuple)) and stored:
        value = stored[0]
    elif first.widget is not None and first.widget.name in first.node.values:
        value = first.node.values[first.widget.name]
    else:
        raise refused(primitive.place, "it holds no value", "Link it once more, or remove it")
    if widgets[0].kind not in ("INT", "FLOAT"):
        return held(widgets[0], value)
    value = _as_number(value)
    if not is_number(value):
        raise refused(primitive.place, f"it feeds a number and holds {shown(value)}", "Give it a number")
    return _kept(value, widgets)


def _as_number(value: Any) -> Any:
    """The number that JavaScript makes of *value*, where it makes one."""
    if isinstance(value, bool):
        return int(value)
    if not isinstance(value, str) or "_" in value:
        return value
    text = value.strip() or "0"
    for parse in (int, float, lambda text: int(text, 0)):
        try:
            return parse(text)
        except ValueError:
            pass
    return value


def _kept(value: Any, widgets: list[Widget]) -> Any:
    """What the primitive's own widget makes of *value*: it takes what all the widgets take that it feeds.

    Those that declare something else beside limits and steps don't count (mergeNumericInputSpec in nodeDefUtil.ts).
    """
    options = widgets[0].options
    for widget in widgets:
        merged = _merged(options, widget.options) if widget.kind == widgets[0].kind else None
        if merged is not None:
            options = merged
            value = rounded(min(max(value, options["min"]), options["max"]), widget._replace(options=options))
    return value


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    low = max(_number(each, "min", -math.inf) for each in (one, other))
    high = min(_number(each, "max", math.inf) for each in (one, other))
    names = (set(one) | set(other)) - _OWN
    if low > high or any(one.get(name) != other.get(name) for name in names):
        return None
    step = _common_step(_number(one, "step", 1), _number(other, "step", 1))
    return {**one, **other, "min": low, "max": high, "step": step}


def _common_step(one: float, other: float) -> float:
    low, high = other, one
    while low:
        low, high = math.fmod(high, low), low
    return abs(one * other) / high if high else 1


def rounded(value: Any, widget: Widget) -> Any:
    """*value* as a widget for numbers keeps it when it is given it: on its steps, a FLOAT within its limits, too."""
    if not is_number(value):
        return value
    if widget.kind == "INT":
        return _on_steps(value, widget)
    if widget.kind == "FLOAT":
        return _in_digits(value, widget)
    return value


def _on_steps(value: float, widget: Widget) -> Any:
    step = _number(widget.options, "step", 1) or 1
    if isinstance(value, int) and step == 1:
        return value
    offset = math.fmod(_number(widget.options, "min", 0), step) if step != 1 else 0
    steps = (value - offset) / step + 0.5
    if not math.isfinite(steps):
        return value
    result = math.floor(steps) * step + offset
    return int(result) if result == int(result) else result


def _in_digits(value: float, widget: Widget) -> Any:
    step = _number(widget.options, "step", 0.5)
    precision = max(0, -math.floor(math.log10(step))) if step > 0 else 0
    unit = _number(widget.options, "round", 0) or (10.0**-precision if precision else 0)
    if unit <= 0 or not math.isfinite(value / unit):
        return value
    digits = precision if step > 0 else max(0, -math.floor(math.log10(unit)))
    exact = Decimal(math.floor(value / unit + 0.5) * unit)
    result = float(exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP, _ALL_DIGITS))
    return min(max(result, _number(widget.options, "min", 0)), _number(widget.options, "max", 2048))


def _number(options: Mapping[str, Any], name: str, otherwise: float) -> float:
    value = options.get(name)
    return value if is_number(value) else otherwise
