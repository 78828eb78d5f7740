"""`run` with the flags for many runs."""

from __future__ import annotations

from argparse import Namespace

from comfyreport.cli.loaded_plugins import LoadedPlugins
from comfyreport.cli.signals import Signals


def run_many_command(arguments: Namespace, signals: Signals, loaded: LoadedPlugins | None) -> int:
    """Make all runs; the exit code."""
    raise NotImplementedError
