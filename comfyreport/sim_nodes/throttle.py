"""Which steps of a node's bar a newer server passes on (ComfyUI's comfy/utils.py, recording h33)."""

from __future__ import annotations

_SECONDS, _PART = 0.1, 0.005
"""A step is passed on only if so much time has gone by, and the bar has grown by so much of its total."""


class Throttle:
    """The bar of one node. `now` is how long the node has worked, in seconds at speed 1."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sent_at = 0.0
        self._sent_value = -1.0

    def passes(self, value: float, maximum: float, *, preview: bool) -> bool:
        """Whether this step is told: the first, the last, one with a preview, or one that is worth it."""
        grown = value - max(0.0, self._sent_value) >= _PART * maximum
        in_time = self.now - self._sent_at >= _SECONDS - 1e-9
        told = preview or self._sent_value < 0 or value >= maximum or (grown and in_time)
        if told:
            self._sent_at, self._sent_value = self.now, value
        return told
