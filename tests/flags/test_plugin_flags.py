"""Flags that plugins add: checked against our own and each other's, and whatever their code raises told in words."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import pytest

from comfyreport.errors import ReporterError, UsageError
from comfyreport.flags.arguments import ArgumentsError, build_parser, parse
from comfyreport.flags.plugin_flags import Flags, parsed
from comfyreport.reporting.hookspecs import FlagParser, hookimpl
from comfyreport.reporting.plugins import Reporter
from comfyreport.reporting.validation import Manager, register


def plugin(
    name: str, act: Callable[[FlagParser], object], *, tryfirst: bool = False, trylast: bool = False
) -> Reporter:
    """A plugin whose hook is *act*."""

    class Plugin:
        @hookimpl(tryfirst=tryfirst, trylast=trylast)
        def comfyreport_addoption(self, parser: FlagParser) -> None:
            act(parser)

    made = Plugin()
    return Reporter(name, made, register(Manager(), made, name), "", None)


def adding(plugin_name: str, *flags: str, **settings: Any) -> Reporter:
    return plugin(plugin_name, lambda parser: parser.add_argument(*flags, **settings))


def asked(*plugins: Reporter, command: str = "run") -> Flags:
    flags = Flags(build_parser(command))
    for ask in flags.ask(plugins):
        ask()
    return flags


def values(flags: Flags, *words: str) -> argparse.Namespace:
    return parsed(lambda: parse("run", ["--workflow", "x.json", *words], flags.parser), flags)


def refused(*plugins: Reporter) -> str:
    with pytest.raises(ReporterError) as caught:
        asked(*plugins)
    assert caught.value.hint
    return caught.value.message


def test_a_flag_is_parsed_and_shown_under_the_plugins_name() -> None:
    flags = asked(adding("guard", "--limit", type=int, default=3, help="the most"), adding("other", "--on"))
    assert (values(flags).limit, values(flags, "--limit", "5").limit) == (3, 5)
    assert "plugin guard:\n  --limit LIMIT" in flags.parser.format_help()
    with pytest.raises(ArgumentsError, match="invalid int value: 'x'"):
        values(flags, "--limit", "x")
    with pytest.raises(ArgumentsError, match="unrecognized arguments: --lim"):
        values(flags, "--lim", "3")


def test_plugins_are_asked_in_the_order_of_hooks() -> None:
    order: list[str] = []
    last = plugin("last", lambda parser: order.append("last"), trylast=True)
    first = plugin("first", lambda parser: order.append("first"), tryfirst=True)
    asked(last, plugin("middle", lambda parser: order.append("middle")), first)
    assert order == ["first", "middle", "last"]


@pytest.mark.parametrize("flag", ["--prompt", "--take-over", "--speed", "--json-progress", "--help"])
def test_a_flag_of_ours_is_refused_whatever_command_has_it(flag: str) -> None:
    assert refused(adding("guest", flag)) == f"plugin guest adds {flag}, which is comfyreport's own"


@pytest.mark.parametrize(
    ("flag", "settings"), [("--plugins", {}), ("--mine", {"dest": "workflow"}), ("--command", {}), ("--recording", {})]
)
def test_a_value_of_ours_is_not_overwritten(flag: str, settings: dict[str, Any]) -> None:
    assert "which is comfyreport's own" in refused(adding("guest", flag, **settings))


def test_two_plugins_with_one_flag_are_both_named() -> None:
    assert refused(adding("a", "--same"), adding("b", "--same")) == "plugins a and b both have the value same"
    one, two = adding("a", "--same", dest="one"), adding("b", "--same", dest="two")
    assert refused(one, two) == "plugins a and b both have --same"


@pytest.mark.parametrize("names", [("-x",), ("word",), ("--",), ("--a b",), ("-p", "--plugin"), ()])
def test_only_long_flags_are_taken(names: tuple[str, ...]) -> None:
    assert "is no flag of a plugin" in refused(adding("guest", *names))


@pytest.mark.parametrize("settings", [{"nonsense": 1}, {"action": "nowhere"}, {"help": "50 %"}, {"type": "int"}])
def test_what_argparse_refuses_names_the_plugin(settings: dict[str, Any]) -> None:
    assert refused(adding("guest", "--flag", **settings)).startswith("plugin guest: the flag --flag can't be added: ")


@pytest.mark.parametrize("error", [RuntimeError("what"), SystemExit("what")])
def test_a_hook_that_raises_is_named(error: BaseException) -> None:
    def act(parser: FlagParser) -> None:
        raise error

    message = refused(plugin("bad", act))
    assert message == f"plugin bad: comfyreport_addoption raised {type(error).__name__}: what"


@pytest.mark.parametrize("raised", [RuntimeError("what"), SystemExit("what")])
def test_what_a_type_raises_is_a_usage_error(raised: BaseException) -> None:
    def convert(text: str) -> object:
        raise UsageError("words") if text == "usage" else raised

    flags = asked(adding("guest", "--flag", type=convert))
    with pytest.raises(ArgumentsError, match="argument --flag: words"):
        values(flags, "--flag", "usage")
    with pytest.raises(ArgumentsError, match=r"argument --flag: plugin guest can't read it: .*: what"):
        values(flags, "--flag", "x")


def test_what_an_action_raises_is_a_usage_error() -> None:
    class Bad(argparse.Action):
        def __call__(self, *arguments: object, **more: object) -> None:
            raise RuntimeError("what")

    flags = asked(adding("guest", "--flag", action=Bad))
    with pytest.raises(ArgumentsError, match=r"a flag of a plugin \(guest\) can't be read: RuntimeError: what"):
        values(flags, "--flag", "x")
