"""A reporter's factory: its signature declares its destination and its options.

The first positional parameter says what DEST is: `out: Stream` is opened by the core, `path: Path` has its folder
created, `folder: Path` may be a folder itself, `url: str` is passed as it is; without one a DEST is a usage error.
Keyword-only parameters are the options; one whose default is a Stream is none, but the command's own stream.
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from comfyreport.errors import ReporterError, one_line
from comfyreport.reporting.streams import Stream

DestinationKind = Literal["stream", "path", "url", "none"]

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_DEFAULTS: Mapping[DestinationKind, Any] = {"stream": Stream, "path": (str, os.PathLike), "url": (str, type(None))}
_PARAM = re.compile(r"^\s*:param (\w+):\s*(.+(?:\n(?!\s*:|\s*$).+)*)", re.MULTILINE)
_OPTION_START = re.compile(r",(\w+)=")


class Option(NamedTuple):
    """One option of a reporter."""

    name: str
    type: Any
    default: Any
    required: bool
    help: str

    @property
    def values(self) -> str:
        """The values that it accepts, in words."""
        return " or ".join(_type_names(self.type))


@dataclass(frozen=True)
class Signature:
    """What a factory takes."""

    destination: DestinationKind
    parameter: str
    default: Any
    required: bool
    options: Mapping[str, Option]
    summary: str
    streams: Mapping[str, Stream] = field(default_factory=dict)
    """The parameters that are given the command's own streams, with their defaults."""


class ReporterSpec(NamedTuple):
    """One `--reporter` value, parsed: `NAME[=DEST][,OPTION=VALUE]…`."""

    name: str
    destination: str | None
    options: Mapping[str, str]


def signature_of(factory: Callable[..., object], name: str) -> Signature:
    """Read *factory*'s signature. Raises ReporterError where it isn't that of a reporter's factory."""
    target = factory.__init__ if inspect.isclass(factory) else factory
    try:
        parameters = list(inspect.signature(factory).parameters.values())
        hints = typing.get_type_hints(target)
    except Exception as error:
        # A package's annotations may raise anything.
        raise ReporterError(
            f"reporter {name}: its factory's signature can't be read: {one_line(error)}",
            hint="import the types of its parameters at module level (from comfyreport import Stream)",
        ) from error
    docs = _parameter_docs(factory)
    destination: inspect.Parameter | None = None
    options: dict[str, Option] = {}
    streams: dict[str, Stream] = {}
    for index, parameter in enumerate(parameters):
        if parameter.kind is parameter.KEYWORD_ONLY and isinstance(parameter.default, Stream):
            streams[parameter.name] = parameter.default
        elif parameter.kind is parameter.KEYWORD_ONLY:
            options[parameter.name] = _option(parameter, hints, docs, name)
        elif index == 0 and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            destination = parameter
        else:
            raise ReporterError(
                f"reporter {name}: parameter {parameter.name} of its factory is neither the destination nor an option",
                hint="a factory takes one destination, and options behind a bare *",
            )
    summary = (inspect.getdoc(factory) or "").partition("\n")[0]
    if destination is None:
        return Signature("none", "", None, False, options, summary, streams)
    default = destination.default
    required = default is destination.empty
    kind = _destination_kind(hints.get(destination.name), destination, name)
    if not required and not isinstance(default, _DEFAULTS[kind]):
        raise ReporterError(
            f"reporter {name}: its factory's {destination.name} has a {type(default).__name__} as its default",
            hint="a Stream's default is stdout or stderr (from comfyreport import stderr); none makes DEST required",
        )
    return Signature(kind, destination.name, None if required else default, required, options, summary, streams)


def _destination_kind(hint: Any, parameter: inspect.Parameter, name: str) -> DestinationKind:
    if hint is Stream or (hint is None and isinstance(parameter.default, Stream)):
        return "stream"
    if hint is Path:
        return "path"
    if parameter.name == "url" and hint is str:
        return "url"
    raise ReporterError(
        f"reporter {name}: its factory's first parameter says no destination",
        hint="a factory begins with out: Stream, path: Path or url: str, or has only options behind a bare *",
    )


def _parameter_docs(factory: Callable[..., object]) -> dict[str, str]:
    text = inspect.getdoc(factory) or ""
    return {match[1]: " ".join(match[2].split()) for match in _PARAM.finditer(text)}


def _option(parameter: inspect.Parameter, hints: Mapping[str, Any], docs: Mapping[str, str], name: str) -> Option:
    hint = hints.get(parameter.name, str)
    required = parameter.default is parameter.empty
    if any(kind not in (str, int, float, bool) and not isinstance(kind, tuple) for kind in _alternatives(hint)):
        raise ReporterError(
            f"reporter {name}: option {parameter.name} has the type {hint}",
            hint="options are str, int, float, bool, Literal, or one of these or None",
        )
    default = None if required else parameter.default
    return Option(parameter.name, hint, default, required, docs.get(parameter.name, ""))


def _alternatives(hint: Any) -> Iterator[Any]:
    """The alternatives of a type: types, and Literals as tuples of their values; None is left out."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        yield typing.get_args(hint)
    elif origin in (typing.Union, types.UnionType):
        for each in typing.get_args(hint):
            yield from _alternatives(each)
    elif hint is not type(None):
        yield hint


def _type_names(hint: Any) -> Iterator[str]:
    for kind in _alternatives(hint):
        if isinstance(kind, tuple):
            yield from (str(value) for value in kind)
        else:
            yield {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]


def convert(option: Option, text: str, name: str) -> Any:
    """*text* as the option's type; ReporterError that says what it takes."""
    for kind in _alternatives(option.type):
        if isinstance(kind, tuple):
            for value in kind:
                if str(value) == text:
                    return value
        elif kind is bool:
            if text.lower() in _TRUE | _FALSE:
                return text.lower() in _TRUE
        else:
            try:
                return kind(text)
            except ValueError:
                continue
    raise ReporterError(
        f"reporter {name}: option {option.name} is {text!r}", hint=f"it takes {option.values}: {option.name}=VALUE"
    )


def split_name(spec: str) -> tuple[str, str]:
    """The reporter's name and what comes behind it, its `=` or `,` included."""
    match = re.search("[=,]", spec)
    return (spec, "") if match is None else (spec[: match.start()], spec[match.start() :])


def parse_spec(spec: str, signature: Signature) -> ReporterSpec:
    """Parse a `--reporter` value by the options that the reporter declares.

    A comma begins an option only before a declared `name=`; two commas are one comma of the text.
    """
    name, rest = split_name(spec)
    declared = signature.options
    parts = _split_options(rest, declared, name)
    first = next(parts)
    destination: str | None = None
    if first.startswith("="):
        destination = first[1:]
    elif first.startswith(","):
        raise _unknown_option(name, first[1:].partition("=")[0], declared)
    options: dict[str, str] = {}
    for part in parts:
        key, _, value = part.partition("=")
        if key in options:
            raise ReporterError(f"reporter {name}: option {key} is given twice", hint="give it once")
        options[key] = value
    return ReporterSpec(name, destination, options)


def _split_options(rest: str, declared: Mapping[str, Option], name: str) -> Iterator[str]:
    """The destination, with its `=`, and then each `option=value`; doubled commas undone."""
    part, index = "", 0
    while index < len(rest):
        if rest.startswith(",,", index):
            part += ","
            index += 2
            continue
        match = _OPTION_START.match(rest, index)
        if match and match[1] in declared:
            yield part
            part = ""
        elif match and _is_typo(match[1], part.partition("=")[0], declared):
            raise _unknown_option(name, match[1], declared)
        else:
            part += rest[index]
        index += 1
    yield part


def _is_typo(word: str, current: str, declared: Mapping[str, Option]) -> bool:
    """Whether `,word=` behind *current*, an option's name or nothing, is most likely a mistyped option.

    By the rule it belongs to the value before it. But a number has no such end, and `out.jsonl,detial=nodes` is
    hardly a file's name.
    """
    if current in declared and str not in _alternatives(declared[current].type):
        return True
    return bool(difflib.get_close_matches(word, declared, 1, 0.7))


def _unknown_option(name: str, word: str, declared: Mapping[str, Option]) -> ReporterError:
    near = difflib.get_close_matches(word, declared, 1)
    declaration = ", ".join(f"{option.name}={'|'.join(_type_names(option.type))}" for option in declared.values())
    hint = f"did you mean {near[0]}=? " if near else ""
    return ReporterError(
        f"reporter {name} has no option {word!r}",
        hint=hint
        + (f"its options: {declaration} (a comma within a path is written ,,)" if declaration else "it has no options"),
    )


def arguments(spec: ReporterSpec, signature: Signature) -> dict[str, Any]:
    """The options of *spec* as keyword arguments; ReporterError where one is ill-typed or missing."""
    for option in signature.options.values():
        if option.required and option.name not in spec.options:
            raise ReporterError(
                f"reporter {spec.name} needs the option {option.name}",
                hint=f"--reporter {spec.name},{option.name}=…  ({option.values})",
            )
    return {key: convert(signature.options[key], value, spec.name) for key, value in spec.options.items()}
