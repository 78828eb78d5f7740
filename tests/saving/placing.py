"""Saving one output in one step."""

from __future__ import annotations

from comfyreport.events import Output
from comfyreport.saving.target import Fetch, Spot, Target


def save_to(target: Target, made: Output, chunks: Fetch, spot: Spot | None = None) -> Output:
    """Fetch an output, and give it its name at once."""
    spot = spot or target.spot(made)
    return target.put(made, target.fetch(made, spot, chunks), spot)
