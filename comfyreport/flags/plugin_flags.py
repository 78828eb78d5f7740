"""The flags that plugins add to the command line: checked against comfyreport's own and each other's."""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from comfyreport.errors import ComfyReportError, ReporterError, one_line
from comfyreport.flags.arguments import ArgumentsError, build_parser
from comfyreport.reporting.hookspecs import PREFIX
from comfyreport.reporting.plugins import Reporter

ADDOPTION_HOOK = f"{PREFIX}addoption"

_NEEDED = {"run": ["--workflow", "x"], "attach": ["x"], "replay": ["x"]}
"""What each command can't be parsed without."""


def _own(command: str, words: Sequence[str]) -> argparse.Namespace:
    return build_parser(command).parse_args(words)


class Flags:
    """The flags of all plugins of one command, in groups of its *parser*."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser
        self.owners: dict[str, str] = {}
        """The plugin that each name of a value belongs to."""
        self._taken = {name for command, words in _NEEDED.items() for name in vars(_own(command, words))}
        self._taken.add("command")

    def ask(self, plugins: Iterable[Reporter]) -> Iterator[Callable[[], None]]:
        """For each plugin that has flags, in the order of hooks, what asks for them; ReporterError from it."""
        having = [plugin for plugin in plugins if ADDOPTION_HOOK in plugin.hooks]
        for plugin in sorted(having, key=lambda each: each.hooks[ADDOPTION_HOOK].rank):
            yield functools.partial(self._ask_one, plugin)

    def _ask_one(self, plugin: Reporter) -> None:
        hook = plugin.hooks[ADDOPTION_HOOK]
        parser = PluginParser(self, plugin.name)
        try:
            hook.function(*[parser for _ in hook.arguments])
        except (KeyboardInterrupt, ReporterError):
            raise
        except BaseException as error:
            raise ReporterError(
                f"plugin {plugin}: {ADDOPTION_HOOK} raised {one_line(error)}",
                hint="repair that plugin, or leave it out",
            ) from error

    def add(self, plugin: str, group: Any, names: tuple[str, ...], settings: Any) -> Any:
        """Add one flag to a group of *plugin*'s, which is returned. ReporterError names who has it already."""
        wrong = next((name for name in names if not re.fullmatch(r"--[A-Za-z][\w-]*", str(name))), None)
        if wrong is not None or not names:
            raise ReporterError(
                f"plugin {plugin}: {'a flag without a name' if wrong is None else repr(wrong)} is no flag of a plugin",
                hint="a plugin's flag begins with --: parser.add_argument('--limit', type=int)",
            )
        if callable(settings.get("type")):
            settings = {**settings, "type": _converter(settings["type"], plugin)}
        # On parsers without other plugins' flags: what fails there clashes with our own, in whatever command.
        for command in _NEEDED:
            dest = self._try(build_parser(command), plugin, "comfyreport", names, settings)
        if dest in self._taken:
            raise _clash(plugin, "comfyreport", f"the value {dest}")
        if dest in self.owners:
            raise _clash(plugin, f"plugin {self.owners[dest]}", f"the value {dest}")
        for name in names:
            if name in self.owners:
                raise _clash(plugin, f"plugin {self.owners[name]}", name)
        group = group or self.parser.add_argument_group(f"plugin {plugin}")
        group.add_argument(*names, **settings)
        self.owners.update(dict.fromkeys((*names, dest), plugin))
        return group

    def _try(
        self, parser: argparse.ArgumentParser, plugin: str, owner: str, names: tuple[str, ...], settings: Any
    ) -> str:
        try:
            dest = parser.add_argument(*names, **settings).dest
            parser.format_help()
        except argparse.ArgumentError as error:
            raise _clash(plugin, owner, error.message.rpartition(": ")[2]) from error
        except Exception as error:
            raise ReporterError(
                f"plugin {plugin}: the flag {names[0]} can't be added: {one_line(error)}",
                hint="parser.add_argument takes what argparse's method takes",
            ) from error
        return dest


class PluginParser:
    """What `comfyreport_addoption` is given (a `FlagParser`): adds flags for one plugin."""

    def __init__(self, flags: Flags, plugin: str) -> None:
        self._flags = flags
        self._plugin = plugin
        self._group: Any = None

    def add_argument(self, *flags: str, **settings: Any) -> None:
        """Add a flag, with the arguments of `argparse`'s method of that name."""
        self._group = self._flags.add(self._plugin, self._group, flags, settings)


def _clash(plugin: str, owner: str, what: str) -> ReporterError:
    return ReporterError(
        f"plugins {owner.removeprefix('plugin ')} and {plugin} both have {what}"
        if owner.startswith("plugin ")
        else f"plugin {plugin} adds {what}, which is {owner}'s own",
        hint=f"leave one of them out (-p no:{plugin})" if owner.startswith("plugin ") else "rename that flag",
    )


def _converter(convert: Callable[[str], Any], plugin: str) -> Callable[[str], Any]:
    """*convert*, whatever it raises, with messages for the user."""

    def converted(text: str) -> Any:
        try:
            return convert(text)
        except (argparse.ArgumentTypeError, KeyboardInterrupt, TypeError, ValueError):
            raise
        except ComfyReportError as error:
            raise argparse.ArgumentTypeError(str(error.message)) from error
        except BaseException as error:
            # A SystemExit would be taken for that of --help.
            raise argparse.ArgumentTypeError(f"plugin {plugin} can't read it: {one_line(error)}") from error

    # argparse names it where it refuses a value.
    converted.__name__ = getattr(convert, "__name__", "value")
    return converted


def parsed(parse: Callable[[], argparse.Namespace], flags: Flags) -> argparse.Namespace:
    """What *parse* returns; ArgumentsError also for what an action of a plugin's raises."""
    try:
        return parse()
    except ArgumentsError:
        raise
    except Exception as error:
        owners = ", ".join(sorted(set(flags.owners.values())))
        if not owners:
            raise
        raise ArgumentsError(f"a flag of a plugin ({owners}) can't be read: {one_line(error)}") from error
