#!/usr/bin/env python3
"""Generate with a ComfyUI workflow and watch its progress: the `comfyreport` command under its first name.

    python3 generate.py --workflow workflows/flux-dev.json --prompt "a sunset over mountains" --output /tmp/sunset.png

`ProgressTracker`, `wait_for_completion`, `run_generation` and `main` can be imported from here.
"""

from __future__ import annotations

import sys

try:
    from importlib.metadata import version

    version("comfyreport")
    from comfyreport import ProgressTracker, run_generation, wait_for_completion
    from comfyreport.cli.main import command, main
except ImportError as missing:
    print(f'generate.py: {missing}\n  Hint: install comfyreport first: pip install ".[sim]"', file=sys.stderr)
    sys.exit(2)

__all__ = ["ProgressTracker", "main", "run_generation", "wait_for_completion"]

if __name__ == "__main__":
    command()
