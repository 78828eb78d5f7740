"""The values of a node's widgets, from `widgets_values`: by their places in a list, by their names in an object. Pure.

Sources: LGraphNode.configure in ComfyUI_frontend src/lib/litegraph/src/LGraphNode.ts, and migrateWidgetsValues in
src/utils/litegraphUtil.ts.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from comfyreport.workflow.convert.classes import (
    CAPTURED,
    CONTROL,
    CONTROLS,
    DYNAMIC_COMBO,
    Input,
    NodeClass,
    Widget,
    of_choice,
)
from comfyreport.workflow.convert.editor import Node
from comfyreport.workflow.convert.refusals import refused, shown
from comfyreport.workflow.convert.texts import as_text, copied, is_number

_ANNOTATED = re.compile(r"\[(input|output|temp)\]", re.IGNORECASE)


class Values(NamedTuple):
    """A node's widgets with their values, in the editor's order, and the inputs that its choices brought with them.

    A widget without a value has none in the prompt either. `places` are all widgets: controls share a name.
    """

    widgets: dict[str, Widget]
    values: dict[str, Any]
    sockets: list[Input]
    linkable: dict[str, Input]
    places: list[Widget]


def stored_values(node: Node, node_class: NodeClass) -> Values:
    """What *node*'s widgets hold. Raises WorkflowError where the list in the file isn't that of the class."""
    stored = node.stored
    if stored is None or isinstance(stored, Mapping):
        return _named(node_class, stored or {})
    if not isinstance(stored, (list, tuple)):
        raise refused(node.place, "its widgets_values is neither a list nor an object", "Save it once more in ComfyUI")
    values = _without_old_places(list(stored), node_class)
    result = _placed(node_class, values)
    if node.runs and not any(widget.kind in CAPTURED for widget in result.places):
        if len(values) != len(result.places):
            check_explained(node, result.places, values)
        if node_class.is_foreign:
            _check_all_taken(node, values[len(result.places) :])
        _check_choices(node, result)
    return result


def _named(node_class: NodeClass, stored: Mapping[str, Any]) -> Values:
    """By name, as packs with scripts of their own store them; VideoHelperSuite's have inputs that no class declares."""
    result = _filled(node_class, lambda widget: (stored[widget.name],) if widget.name in stored else ())
    for name, value in stored.items():
        if name not in result.widgets and not isinstance(value, (dict, list)) and value is not None:
            result.widgets[name] = Widget(name, "", {})
            result.values[name] = value
    return result


def _placed(node_class: NodeClass, stored: list[Any]) -> Values:
    places = iter(stored)
    return _filled(node_class, lambda _: tuple(value for value in [next(places, _NOTHING)] if value is not _NOTHING))


_NOTHING = object()


def _filled(node_class: NodeClass, stored: Callable[[Widget], tuple[Any, ...]]) -> Values:
    """The widgets of a class, one after the other: what a choice brings with it stands behind it."""
    inputs = node_class.inputs
    result = Values({}, {}, list(inputs.sockets), dict(inputs.linkable), [])
    todo = deque(inputs.widgets)
    while todo:
        widget = todo.popleft()
        value = stored(widget) or widget.default
        result.places.append(widget)
        result.widgets[widget.name] = widget
        if value:
            result.values[widget.name] = held(widget, copied(value[0]))
        if widget.kind == DYNAMIC_COMBO and value:
            brought = of_choice(widget, value[0])
            todo.extendleft(reversed(brought.widgets))
            result.sockets.extend(brought.sockets)
            result.linkable.update(brought.linkable)
    return result


def held(widget: Widget, value: Any) -> Any:
    """What *widget* makes of a value that it is given."""
    if widget.kind == "STRING" and widget.options.get("multiline"):
        return as_text(value)
    if widget.kind == "IMAGECOMPARE":
        return copied(widget.default[0])  # the addresses of two pictures, which the editor doesn't restore
    folder = widget.options.get("image_folder", "input")
    if folder != "input" and isinstance(value, str) and not _ANNOTATED.search(value):
        return f"{value} [{folder}]"
    return value


def _without_old_places(stored: list[Any], node_class: NodeClass) -> list[Any]:
    """The list without the values that inputs had which are sockets today."""
    places = node_class.old_places
    if sum(count for count, _ in places) != len(stored) or not any(forced for _, forced in places):
        return stored
    # The front end drops one value an input, by its place among the inputs.
    forced = [each for _, each in places]
    return [value for index, value in enumerate(stored) if index >= len(forced) or not forced[index]]


def _check_choices(node: Node, found: Values) -> None:
    """Refuse a choice that the server lacks, where other inputs come with each: nobody knows which are meant."""
    for name, widget in found.widgets.items():
        value = found.values.get(name)
        if widget.kind == DYNAMIC_COMBO and value not in widget.choices:
            raise refused(
                node.place,
                f"the server's class has no choice {shown(value)} for its input {shown(name)}",
                "Bring the server to the version that the file is from, or choose another",
            )


def _check_all_taken(node: Node, left: list[Any]) -> None:
    """Refuse values that no input takes, of a package with scripts of its own: they may send them all the same."""
    if any(value not in (None, "", {}, []) for value in left):
        raise refused(
            node.place,
            f"{len(left)} of its values belong to widgets that its package makes in the browser",
            "Use a node of ComfyUI's own in its place",
        )


def check_explained(node: Node, widgets: list[Widget], stored: list[Any]) -> None:
    """Refuse a list that is shorter or longer than the class wants, and not because the class has changed at its end.

    A class gets new inputs at its end, mostly, and both sides of such a change are frequent: the front end takes the
    defaults, or ignores what is left. It does so as well where a value is missing in the middle, and puts all the
    others into the wrong inputs.
    """
    wrong = next((widget for widget, value in zip(widgets, stored, strict=False) if not _fits(widget, value)), None)
    if wrong is None and len(stored) < len(widgets) and widgets[len(stored)].kind == CONTROL:
        wrong = widgets[len(stored)]
    if wrong is not None:
        raise refused(
            node.place,
            f"its widgets_values has {len(stored)} values where the server's class takes {len(widgets)}, and they "
            f"don't fit from {shown(wrong.name)} on",
            "Bring the server to the version that the file is from, or set that node up anew in ComfyUI",
        )


def _fits(widget: Widget, value: Any) -> bool:
    """Whether a widget of that kind can have had *value*."""
    if value is None:
        return True
    if widget.kind == "INT":
        return is_number(value) and value == int(value)
    if widget.kind == "FLOAT":
        return is_number(value)
    if widget.kind == "BOOLEAN":
        return isinstance(value, bool)
    if widget.kind == CONTROL:
        return isinstance(value, bool) or value in CONTROLS
    if widget.kind in ("STRING", "COMBO", DYNAMIC_COMBO):
        return isinstance(value, str) or (widget.kind == "COMBO" and value in widget.choices)
    return True
