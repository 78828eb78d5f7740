"""What is installed: the entry points of reporters and plugins, and loading one."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any, NamedTuple

from comfyreport.errors import ReporterError, machine_limit, one_line
from comfyreport.reporting.hookspecs import PROJECT

GROUP = PROJECT


class Installed(NamedTuple):
    """One installed reporter or plugin, not loaded.

    `package` is its distribution and version, such as `comfyreport 0.1.0`; `rivals` are others that take its name.
    """

    point: EntryPoint
    package: str
    rivals: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """The package, else what the entry point names."""
        return self.package or self.point.value


def entry_points() -> dict[str, Installed]:
    """All installed reporters and plugins, by name, not loaded."""
    by_name: dict[str, dict[str, Installed]] = {}
    for point in _all_entry_points():
        found = Installed(point, _package_of(point))
        # One distribution may be found twice, such as an installed one and its clone: the first on the path counts.
        by_name.setdefault(point.name, {}).setdefault(_distribution(found), found)
    if not by_name:
        # Python's own look for packages finds none where it can open no folder.
        os.close(os.open(os.devnull, os.O_RDONLY))
    return {name: _with_rivals(list(several.values())) for name, several in by_name.items()}


def _with_rivals(several: list[Installed]) -> Installed:
    first, *others = several
    return first._replace(rivals=tuple(other.origin for other in others))


def _distribution(found: Installed) -> str:
    """The name of a distribution, normalised."""
    name = found.package.rpartition(" ")[0]
    return re.sub(r"[-_.]+", "-", name).lower() or found.point.value


def _all_entry_points() -> Iterator[EntryPoint]:
    try:
        yield from importlib.metadata.entry_points(group=GROUP)
    except Exception as error:  # any metadata of any installed package
        limit = machine_limit(error)
        if limit is not None:
            raise limit from error
        # One package's metadata can't be read: skip that one.
        for distribution in importlib.metadata.distributions():
            with contextlib.suppress(Exception):
                yield from distribution.entry_points.select(group=GROUP)


def _package_of(point: EntryPoint) -> str:
    try:
        return "" if point.dist is None else f"{point.dist.name} {point.dist.version}"
    except Exception:  # noqa: BLE001  metadata that can't be read, in whatever way
        return ""


def load(installed: Installed) -> Any:
    """Import what an entry point names; ReporterError where that raises anything, or where several have its name."""
    name = installed.point.name
    if installed.rivals:
        packages = " and ".join([installed.origin, *installed.rivals])
        raise ReporterError(
            f"reporter {name} can't be loaded: {packages} both have one of that name",
            hint="uninstall one of these packages",
        )
    try:
        return installed.point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ReporterError(
            f"reporter {name} of {installed.origin} can't be loaded: {one_line(error)}",
            hint="repair or uninstall that package, or choose another reporter",
        ) from error
