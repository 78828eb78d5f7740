"""Numbers in words: spans of time, steps, parts, speeds. Pure."""

from __future__ import annotations

import math


def format_seconds(seconds: float, decimals: int = 1) -> str:
    """A span of time: `1.2s`, `2m 05s`, `1h 02m`, `3d 04h`; *decimals* holds below a minute only."""
    if not math.isfinite(seconds):
        return "?"
    seconds = max(0.0, seconds)
    if round(seconds, decimals) < 60:
        return f"{seconds:.{decimals}f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    minutes = whole // 60
    if minutes < 1440:
        return f"{minutes // 60}h {minutes % 60:02d}m"
    return f"{minutes // 1440}d {minutes % 1440 // 60:02d}h"


def format_steps(step: float, max_steps: float) -> str:
    """A node's own count, `5/20`; fractions get as many digits as *max_steps* makes worth showing."""
    if float(step).is_integer() and float(max_steps).is_integer() and abs(max_steps) < 1e15:
        return f"{int(step)}/{int(max_steps)}"
    if not 1e-3 <= max_steps < 1e15:
        return f"{step:.3g}/{max_steps:.3g}"
    digits = max(0, 2 - math.floor(math.log10(max_steps)))
    return "/".join(_without_zeros(f"{number:.{digits}f}") for number in (step, max_steps))


def percentage(part: float, whole: float = 1.0) -> int:
    """*part* of *whole* in per cent, 0 to 100, rounded down so that 100 means the end."""
    if not whole > 0 or not part > 0:
        return 0
    # Without the small addend 0.29 would give 28: 0.29 * 100 is 28.999….
    return 100 if part >= whole else min(99, math.floor(100 * (part / whole) + 1e-9))


def format_speed(steps_per_second: float | None) -> str:
    """Steps a second, or seconds a step where there are fewer: `4.1 it/s`, `2.5 s/it`; nothing for none."""
    if not steps_per_second:
        return ""
    return f"{steps_per_second:.1f} it/s" if steps_per_second >= 0.95 else f"{1 / steps_per_second:.1f} s/it"


def format_usual(seconds: float | None) -> str:
    """What something usually takes, `usually 12.3s`; nothing where that isn't known."""
    return "" if seconds is None else f"usually {format_seconds(seconds)}"


def _without_zeros(digits: str) -> str:
    return digits.rstrip("0").rstrip(".") if "." in digits else digits
