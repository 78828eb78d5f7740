"""Factories: what a signature says of a reporter's command line, and how `--reporter` values are taken apart by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional

import pytest

from comfyreport.errors import ReporterError
from comfyreport.reporting.signature import (
    Option,
    ReporterSpec,
    arguments,
    convert,
    parse_spec,
    signature_of,
    split_name,
)
from comfyreport.reporting.streams import Stream, stderr, stdout

if TYPE_CHECKING:
    from decimal import Decimal

Level = Literal["low", "high"]


def bell(
    out: Stream = stderr, *, times: int = 1, loud: bool = False, level: Level = "low", text: str = "ping"
) -> object:
    """Rings.

    :param times: how often
    :param level: how
        much of it
    """
    return object()


def options_of(text: str) -> dict[str, Any]:
    """What the factory `bell` would get for a `--reporter` value."""
    signature = signature_of(bell, "bell")
    return arguments(parse_spec(text, signature), signature)


def error_of(call: Callable[..., object], *args: object) -> ReporterError:
    with pytest.raises(ReporterError) as caught:
        call(*args)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


# --- signatures


def to_stream(out: Stream) -> None: ...
def to_stderr(out: Stream = stderr) -> None: ...
def to_stdout(out: Stream = stdout) -> None: ...
def to_path(path: Path) -> None: ...
def to_usual_path(path: Path = Path("run.log")) -> None: ...
def to_url(url: str) -> None: ...
def to_nothing() -> None: ...
def only_options(*, times: int = 1) -> None: ...


@pytest.mark.parametrize(
    ("factory", "kind", "required", "default"),
    [
        (to_stream, "stream", True, None),
        (to_stderr, "stream", False, stderr),
        (to_stdout, "stream", False, stdout),
        (to_path, "path", True, None),
        (to_usual_path, "path", False, Path("run.log")),
        (to_url, "url", True, None),
        (to_nothing, "none", False, None),
        (only_options, "none", False, None),
    ],
)
def test_the_first_parameter_is_the_destination(
    factory: Callable[..., object], kind: str, required: bool, default: object
) -> None:
    signature = signature_of(factory, "x")
    assert (signature.destination, signature.required, signature.default) == (kind, required, default)


def test_options_have_name_type_default_and_help() -> None:
    signature = signature_of(bell, "bell")
    assert signature.summary == "Rings."
    assert list(signature.options.values()) == [
        Option("times", int, 1, False, "how often"),
        Option("loud", bool, False, False, ""),
        Option("level", Level, "low", False, "how much of it"),
        Option("text", str, "ping", False, ""),
    ]


def test_an_option_without_a_default_is_required() -> None:
    def needy(*, token: str) -> None: ...

    assert signature_of(needy, "needy").options["token"].required


def test_an_option_without_a_type_is_a_text() -> None:
    def untyped(*, word="x"):  # type: ignore[no-untyped-def]
        return word

    assert signature_of(untyped, "untyped").options["word"].type is str


class ClassFactory:
    """A class is a factory."""

    def __init__(self, out: Stream, *, times: int = 1) -> None:
        self.out = out


@dataclass
class DataFactory:
    """So is a dataclass."""

    path: Path


class Bare:
    """And one that takes nothing."""


def test_classes_are_factories() -> None:
    signature = signature_of(ClassFactory, "x")
    assert (signature.destination, list(signature.options), signature.summary) == (
        "stream",
        ["times"],
        "A class is a factory.",
    )
    assert signature_of(DataFactory, "x").destination == "path"
    assert signature_of(Bare, "x").destination == "none"


def listed(*, names: list[str]) -> None: ...
def untyped_destination(out) -> None: ...  # type: ignore[no-untyped-def]
def text_destination(name: str) -> None: ...
def two_destinations(out: Stream, path: Path) -> None: ...
def any_options(**options: str) -> None: ...
def any_arguments(*out: Stream) -> None: ...
def type_missing_at_run_time(*, amount: Decimal) -> None: ...
def default_that_is_no_stream(out: Stream = None) -> None: ...  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("factory", "cause"),
    [
        (listed, "option names has the type list"),
        (untyped_destination, "first parameter says no destination"),
        (text_destination, "first parameter says no destination"),
        (two_destinations, "parameter path of its factory is neither"),
        (any_options, "parameter options of its factory is neither"),
        (any_arguments, "parameter out of its factory is neither"),
        (type_missing_at_run_time, "signature can't be read: NameError: name 'Decimal' is not defined"),
        (default_that_is_no_stream, "out has a NoneType as its default|first parameter says no destination"),
        (len, "parameter obj of its factory|first parameter says no destination"),
        (dict.fromkeys, "signature can't be read|first parameter|neither"),
    ],
)
def test_other_signatures_are_refused(factory: Callable[..., object], cause: str) -> None:
    with pytest.raises(ReporterError, match=cause) as caught:
        signature_of(factory, "odd")
    assert caught.value.message.startswith("reporter odd: ")
    assert caught.value.hint


# --- values


def of_type(kind: Any) -> Option:
    return Option("x", kind, None, False, "")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (str, "a=b, c", "a=b, c"),
        (str, "", ""),
        (int, "-3", -3),
        (float, "1e3", 1000.0),
        *((bool, text, True) for text in ("1", "true", "Yes", "ON")),
        *((bool, text, False) for text in ("0", "False", "no", "off")),
        (Level, "high", "high"),
        (Literal[1, 2], "2", 2),
        (Optional[int], "7", 7),  # noqa: UP045  as older plugins write it
        (int | None, "7", 7),
        (Literal["auto"] | float, "auto", "auto"),
        (Literal["auto"] | float, "0.5", 0.5),
        (int | str, "many", "many"),
    ],
)
def test_values_are_of_the_options_type(kind: Any, text: str, value: object) -> None:
    converted = convert(of_type(kind), text, "bell")
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("kind", "text", "takes"),
    [
        (int, "two", "a whole number"),
        (int, "2.0", "a whole number"),
        (int, "", "a whole number"),
        (float, "fast", "a number"),
        (bool, "maybe", "true or false"),
        (Level, "medium", "low or high"),
        (int | None, "none", "a whole number"),
        (Literal["auto"] | float, "x", "auto or a number"),
    ],
)
def test_ill_typed_values_are_told_with_the_valid_ones(kind: Any, text: str, takes: str) -> None:
    error = error_of(convert, of_type(kind), text, "bell")
    assert error.message == f"reporter bell: option x is {text!r}"
    assert error.hint == f"it takes {takes}: x=VALUE"


# --- specs


@pytest.mark.parametrize(
    ("spec", "destination", "options"),
    [
        ("bell", None, {}),
        ("bell=a.txt", "a.txt", {}),
        ("bell=", "", {}),
        ("bell=-", "-", {}),
        ("bell=a=b", "a=b", {}),
        ("bell,times=2", None, {"times": "2"}),
        ("bell=a.txt,times=2,loud=yes", "a.txt", {"times": "2", "loud": "yes"}),
        ("bell=a,b.txt", "a,b.txt", {}),
        ("bell=a, times=2", "a, times=2", {}),
        ("bell=a,month=3.txt", "a,month=3.txt", {}),
        ("bell=a,,b", "a,b", {}),
        ("bell=a,,,b", "a,,b", {}),
        ("bell=a,,times=2", "a,times=2", {}),
        ("bell=a,,,times=2", "a,", {"times": "2"}),
        ("bell=a,,tmes=2", "a,tmes=2", {}),
        ("bell,text=a,b,times=2", None, {"text": "a,b", "times": "2"}),
        ("bell,text=a,,times=2", None, {"text": "a,times=2"}),
        ("bell,text=x=y", None, {"text": "x=y"}),
        ("bell,text=,times=1", None, {"text": "", "times": "1"}),
        ("bell=C:\\log.txt", "C:\\log.txt", {}),
        ("bell=größe,ü.txt", "größe,ü.txt", {}),
    ],
)
def test_specs_are_taken_apart(spec: str, destination: str | None, options: dict[str, str]) -> None:
    assert parse_spec(spec, signature_of(bell, "bell")) == ReporterSpec("bell", destination, options)


@pytest.mark.parametrize(
    ("spec", "name", "rest"),
    [("a", "a", ""), ("a=b,c", "a", "=b,c"), ("a,b=c", "a", ",b=c"), ("", "", ""), ("=x", "", "=x")],
)
def test_the_name_ends_at_the_first_sign(spec: str, name: str, rest: str) -> None:
    assert split_name(spec) == (name, rest)


@pytest.mark.parametrize(
    ("spec", "word", "hint"),
    [
        ("bell,volume=3", "volume", "its options: times=a whole number, loud=true or false, level=low|high, text=text"),
        ("bell,tmies=3", "tmies", "did you mean times=? its options: "),
        ("bell,times", "times", "did you mean times=? "),
        ("bell,", "", "its options: "),
        ("bell=a.txt,tims=2", "tims", "did you mean times=? "),
        ("bell=a.txt,times=2,lod=yes", "lod", "did you mean loud=? "),
        ("bell,text=hello,tims=2", "tims", "did you mean times=? "),
        ("bell,times=2,volume=3", "volume", "its options: "),
        ("bell,level=low,volume=3", "volume", "its options: "),
    ],
)
def test_unknown_options_are_told_with_the_valid_ones(spec: str, word: str, hint: str) -> None:
    error = error_of(options_of, spec)
    assert error.message == f"reporter bell has no option {word!r}"
    assert error.hint.startswith(hint)
    assert "times=a whole number" in error.hint
    assert "(a comma within a path is written ,,)" in error.hint


def test_a_reporter_without_options_says_so() -> None:
    error = error_of(parse_spec, "x,a=1", signature_of(to_stream, "x"))
    assert error.hint == "it has no options"


def test_an_option_is_given_once() -> None:
    assert error_of(options_of, "bell,times=1,times=2").message == "reporter bell: option times is given twice"


def test_a_required_option_is_asked_for() -> None:
    def needy(*, token: str, times: int = 1) -> None: ...

    signature = signature_of(needy, "needy")
    error = error_of(arguments, parse_spec("needy,times=1", signature), signature)
    assert error.message == "reporter needy needs the option token"
    assert "needy,token=" in error.hint
    assert "text" in error.hint


def test_options_reach_the_factory_with_their_types() -> None:
    assert options_of("bell=a,times=2,loud=on,level=high,text=x") == {
        "times": 2,
        "loud": True,
        "level": "high",
        "text": "x",
    }
    assert options_of("bell") == {}
