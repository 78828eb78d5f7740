"""What the editor makes of a server's node classes: which inputs are sockets, which are widgets, in which order. Pure.

Sources: ComfyUI_frontend src/services/litegraphService.ts (a node's inputs), src/scripts/widgets.ts (which types have a
widget, and the control behind a seed), src/core/graph/widgets/dynamicWidgets.ts (inputs that come with a choice), and
the extensions in src/extensions/core that add widgets to classes (uploads, 3D).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from comfyreport.workflow.convert.editor import ANY

DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
AUTOGROW = "COMFY_AUTOGROW_V3"
MATCH_TYPE = "COMFY_MATCHTYPE_V3"

CAPTURED = frozenset(("WEBCAM", "AUDIO_RECORD", "LOAD_3D", "LOAD_3D_ANIMATION"))
"""Widgets whose value the browser makes anew for each prompt: a picture of the camera, a recording, a 3D scene."""

# What is no input: the mode behind a seed, the filter behind a choice, and buttons. They have a place among the values.
CONTROL, _FILTER, _BUTTON = "control", "filter", "button"
_UNSENT = frozenset((CONTROL, _FILTER, _BUTTON))
CONTROLS = ("fixed", "increment", "decrement", "randomize", "increment-wrap")
"""What stands behind a seed: what becomes of it when the prompt has left. Old files have true or false."""

_WIDGETS = CAPTURED | {
    "INT", "FLOAT", "BOOLEAN", "STRING", "MARKDOWN", "COMBO", "TEXTAREA", "COLOR", "COLORS", "IMAGEUPLOAD",
    "FILEUPLOAD", "TREESELECT", "MULTISELECT", "SELECTBUTTON", "IMAGECOMPARE", "CHART", "GALLERIA", "PAINTER",
    "COMPOSITOR", "CURVE", "RANGE", "VIDEO_EDIT", "RESOLUTION_PREVIEW", "BOUNDING_BOX", "BOUNDING_BOXES", "PREVIEW_3D",
    DYNAMIC_COMBO,
}  # fmt: skip
_SEEDS = ("seed", "noise_seed")
_UPLOADS = ("image_upload", "video_upload", "animated_image_upload")

_EMPTY: Mapping[str, Any] = {
    "INT": 0, "FLOAT": 0, "BOOLEAN": False, "STRING": "", "IMAGECOMPARE": ["", ""], CONTROL: "randomize",
}  # fmt: skip

Spec = Mapping[str, Any]


class Widget(NamedTuple):
    """A widget of a node: `kind` is the type that made it, `options` what its class declares."""

    name: str
    kind: str
    options: Spec

    @property
    def sent(self) -> bool:
        """Whether its value is an input of the prompt."""
        return self.kind not in _UNSENT

    @property
    def default(self) -> tuple[Any, ...]:
        """The value of a new node, as a tuple of one; empty where the editor has none either."""
        value = self.options.get("default")
        if self.kind in ("COMBO", DYNAMIC_COMBO):
            choices = self.choices
            return (value,) if value else tuple(choices[:1])
        if value is not None:
            return (value,)
        if self.kind in _EMPTY:
            return (_EMPTY[self.kind],)
        return () if self.sent else ("",)

    @property
    def choices(self) -> list[Any]:
        """What may be chosen in a combo."""
        entries = _entries(self.options, "options")
        if self.kind == DYNAMIC_COMBO:
            return [entry.get("key") for entry in entries if isinstance(entry, Mapping)]
        return entries


class Input(NamedTuple):
    """An input of a class as the editor shows it: a socket, or a widget that can be linked, too."""

    name: str
    type: str


class Inputs(NamedTuple):
    """The inputs of a class, or those that come with a choice; a widget's name is in both where it can be linked."""

    sockets: list[Input]
    widgets: list[Widget]
    linkable: dict[str, Input]


class NodeClass(NamedTuple):
    """A class of the server; `old_places`: the values of each input in old files, and whether it is a socket today.

    `is_foreign`: it isn't ComfyUI's own, and may have scripts in the browser of which nothing is known.
    """

    name: str
    title: str
    inputs: Inputs
    outputs: list[str]
    old_places: list[tuple[int, bool]]
    is_foreign: bool


class Classes:
    """The classes of a server, each read when it is asked for."""

    def __init__(self, object_info: Mapping[str, Any]) -> None:
        self._info = object_info
        self._known: dict[str, NodeClass | None] = {}

    def get(self, name: str) -> NodeClass | None:
        """The class; None where the server lacks it."""
        if name not in self._known:
            entry = self._info.get(name)
            self._known[name] = _node_class(name, entry) if isinstance(entry, Mapping) else None
        return self._known[name]

    def names(self) -> list[str]:
        """What the server has."""
        return [name for name, entry in self._info.items() if isinstance(entry, Mapping)]


def of_choice(widget: Widget, value: object) -> Inputs:
    """The inputs that the choice *value* brings with it."""
    for entry in _entries(widget.options, "options"):
        if isinstance(entry, Mapping) and entry.get("key") == value:
            return _inputs([(f"{widget.name}.{name}", spec) for _, name, spec in _declared(entry.get("inputs"))])
    return Inputs([], [], {})


def _node_class(name: str, entry: Spec) -> NodeClass:
    declared = _in_order(entry)
    specs = [(input_name, spec) for _, input_name, spec in declared]
    inputs = _inputs([*specs, *_added(name, declared)])
    outputs = entry.get("output")
    return NodeClass(
        name=name,
        title=str(entry.get("display_name") or name),
        inputs=inputs,
        outputs=[each if isinstance(each, str) else "COMBO" for each in outputs] if isinstance(outputs, list) else [],
        old_places=_old_places(specs, {widget.name for widget in inputs.widgets}),
        is_foreign=str(entry.get("python_module", "")).startswith("custom_nodes"),
    )


def _declared(groups: object) -> Iterator[tuple[str, str, list[Any]]]:
    for group in ("required", "optional"):
        entries = groups.get(group) if isinstance(groups, Mapping) else None
        for name, spec in entries.items() if isinstance(entries, Mapping) else ():
            if isinstance(spec, (list, tuple)) and spec:
                yield group, str(name), list(spec)


def _in_order(entry: Spec) -> list[tuple[str, str, list[Any]]]:
    """The inputs of a class in the order of `input_order`, those that it leaves out last."""
    declared = list(_declared(entry.get("input")))
    order = entry.get("input_order")
    if not isinstance(order, Mapping):
        return declared
    places = {
        (group, name): (index, place)
        for index, group in enumerate(("required", "optional"))
        for place, name in enumerate(_entries(order, group))
        if isinstance(name, str)
    }
    return sorted(declared, key=lambda each: places.get((each[0], each[1]), (2, 0)))


def _entries(holder: Mapping[str, Any], name: str) -> list[Any]:
    """The list of that name in *holder*; an empty one where a server has something else there."""
    entries = holder.get(name)
    return entries if isinstance(entries, list) else []


def _options(spec: list[Any]) -> Spec:
    return spec[1] if len(spec) > 1 and isinstance(spec[1], Mapping) else {}


def _added(name: str, declared: list[tuple[str, str, list[Any]]]) -> Iterator[tuple[str, list[Any]]]:
    """The inputs that the front end's own extensions add to a class."""
    for group, input_name, spec in declared:
        options = _options(spec)
        is_combo = isinstance(spec[0], list) or spec[0] == "COMBO"
        if group == "required" and is_combo and any(options.get(each) is True for each in _UPLOADS):
            yield "upload", [_BUTTON]
            break
        if group == "required" and input_name == "audio" and options.get("audio_upload") is True:
            yield "upload", [_BUTTON]
            break
    if name == "SaveGLB" and all(input_name != "image" for _, input_name, _ in declared):
        yield "image", ["PREVIEW_3D", {"default": "", "socketless": True}]


def _inputs(specs: list[tuple[str, list[Any]]]) -> Inputs:
    inputs = Inputs([], [], {})
    for name, spec in specs:
        options, kind = _options(spec), spec[0]
        if isinstance(kind, list):
            options, kind = {**options, "options": kind}, "COMBO"
        elif not isinstance(kind, str):
            continue
        chosen = options.get("widgetType")
        widget_kind = chosen if isinstance(chosen, str) and chosen else kind
        if (widget_kind not in _WIDGETS and widget_kind != _BUTTON) or options.get("forceInput"):
            inputs.sockets.extend(_socket(name, kind, options))
            continue
        inputs.widgets.extend(_widgets(name, widget_kind, options))
        if not options.get("socketless") and widget_kind != _BUTTON:
            inputs.linkable[name] = Input(name, kind)
    return inputs


def _socket(name: str, kind: str, options: Spec) -> Iterator[Input]:
    template = options.get("template")
    if kind == AUTOGROW:
        return  # as many as are linked: they stand in the file
    if kind == MATCH_TYPE and isinstance(template, Mapping):
        kind = str(template.get("allowed_types") or ANY)
    yield Input(name, kind)


def _widgets(name: str, kind: str, options: Spec) -> Iterator[Widget]:
    """The widget of an input, with what stands behind it among a node's values."""
    yield Widget(name, kind, options)
    control = options.get("control_after_generate")
    if (kind == "INT" and (name in _SEEDS if control is None else control)) or (kind == "COMBO" and control):
        yield Widget(control if isinstance(control, str) else "control_after_generate", CONTROL, {})
        if kind == "COMBO":
            yield Widget("control_filter_list", _FILTER, {})


def _old_places(specs: list[tuple[str, list[Any]]], widgets: set[str]) -> list[tuple[int, bool]]:
    """For each input that had a widget in old files: how many values it had, and whether it is a socket today.

    See migrateWidgetsValues in src/utils/litegraphUtil.ts.
    """
    places = []
    for name, spec in specs:
        options = _options(spec)
        forced = bool(options.get("forceInput"))
        if forced or name in widgets:
            controlled = bool(options.get("control_after_generate")) or name in _SEEDS
            places.append((2 if controlled else 1, forced))
    return places
