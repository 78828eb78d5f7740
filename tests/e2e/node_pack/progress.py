"""Nodes that report progress, or conspicuously don't."""

import asyncio

import torch
from comfy.utils import ProgressBar
from PIL import Image
from server import PromptServer

from .base import COUNT, SECONDS, Passing, wait


def _steps(steps):
    """The usual: 1 to n of n."""
    return [(value, steps) for value in range(1, steps + 1)]


def _restart(steps):
    """The same bar twice over, as a sampler of two passes shows it."""
    return _steps(steps) * 2


def _float(steps):
    """Fractions of one."""
    return [(value / steps, 1.0) for value in range(1, steps + 1)]


def _growing(steps):
    """A total that grows as more work is found."""
    return [(value, steps + value) for value in range(1, steps + 1)]


def _past_total(steps):
    """Values beyond the total, which the server cuts off."""
    return [(value, steps) for value in range(1, steps + 3)]


def _zero_total(steps):
    """A total of nothing."""
    return [(0, 0)] * steps


def _two_bars(steps):
    """An outer bar and an inner one that take turns in the same node."""
    return [pair for outer in range(1, steps + 1) for pair in [(outer, steps), *_steps(2)]]


MODES = {
    "steps": _steps,
    "restart": _restart,
    "float": _float,
    "growing": _growing,
    "past_total": _past_total,
    "zero_total": _zero_total,
    "two_bars": _two_bars,
}


def _preview(number):
    """A small picture in the form in which a sampler gives its previews."""
    return ("JPEG", Image.new("RGB", (32, 32), (number * 40 % 256, 64, 128)), 64)


class ReportSteps(Passing):
    """Reports steps in one of several manners, with a pause before each."""

    INPUTS = {
        "mode": (list(MODES),),
        "steps": ("INT", COUNT),
        "seconds": ("FLOAT", SECONDS),
        "previews": ("BOOLEAN", {"default": False}),
    }

    def run(self, image, mode, steps, seconds, previews):
        bar = ProgressBar(steps)
        for number, (value, total) in enumerate(MODES[mode](steps)):
            wait(seconds)
            bar.update_absolute(value, total, _preview(number) if previews else None)
        return (image,)


class ReportParallel(Passing):
    """Reports steps while other nodes of its kind do the same."""

    INPUTS = {"steps": ("INT", COUNT), "seconds": ("FLOAT", SECONDS)}
    HIDDEN = {"unique_id": "UNIQUE_ID"}

    async def run(self, image, steps, seconds, unique_id):
        bar = ProgressBar(steps, node_id=unique_id)
        for _ in range(steps):
            await asyncio.sleep(seconds)
            bar.update(1)
        return (image,)


class ReportText(Passing):
    """Sends progress text, to the prompt's own client or to everybody."""

    INPUTS = {
        "text": ("STRING", {"default": "thinking", "multiline": True}),
        "times": ("INT", {**COUNT, "default": 1}),
        "seconds": ("FLOAT", SECONDS),
        "broadcast": ("BOOLEAN", {"default": False}),
    }
    HIDDEN = {"unique_id": "UNIQUE_ID"}

    def run(self, image, text, times, seconds, broadcast, unique_id):
        server = PromptServer.instance
        for _ in range(times):
            wait(seconds)
            server.send_progress_text(text, unique_id, None if broadcast else server.client_id)
        return (image,)


class ReportSilence(Passing):
    """Takes its time without a word, as loaders and decoders do."""

    INPUTS = {
        "seconds": ("FLOAT", {**SECONDS, "default": 2.0}),
        "interruptible": ("BOOLEAN", {"default": True}),
    }

    def run(self, image, seconds, interruptible):
        wait(seconds, interruptible)
        return (image,)


class ReportJoin(Passing):
    """Waits for two other images besides its first and puts out their mean."""

    INPUTS = {"image2": ("IMAGE",), "image3": ("IMAGE",)}

    def run(self, image, image2, image3):
        return (torch.stack([image, image2, image3]).mean(dim=0),)


class ReportNoUi(Passing):
    """An output node that has nothing to show."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    def run(self, image):
        return ()


NODES = (ReportSteps, ReportParallel, ReportText, ReportSilence, ReportJoin, ReportNoUi)
