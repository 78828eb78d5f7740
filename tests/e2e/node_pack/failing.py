"""Nodes that fail, each in its own way."""

import torch
from comfy.utils import ProgressBar
from comfy_execution.graph_utils import ExecutionBlocker

from .base import COUNT, SECONDS, Passing, wait


class ReportRaise(Passing):
    """Reports some steps of ten, then raises."""

    INPUTS = {
        "message": ("STRING", {"default": "this node always fails"}),
        "steps": ("INT", {**COUNT, "default": 0, "max": 10}),
        "seconds": ("FLOAT", SECONDS),
    }

    def run(self, image, message, steps, seconds):
        bar = ProgressBar(10)
        for _ in range(steps):
            wait(seconds)
            bar.update(1)
        raise RuntimeError(message)


class ReportOutOfMemory(Passing):
    """Raises what PyTorch raises when the device's memory is used up."""

    def run(self, image):
        raise torch.OutOfMemoryError("Allocation on device would exceed allowed memory. (out of memory)")


class ReportBlock(Passing):
    """Blocks whatever comes after it, with a message or without."""

    INPUTS = {
        "verbose": ("BOOLEAN", {"default": True}),
        "message": ("STRING", {"default": "blocked by a test node"}),
    }

    def run(self, image, verbose, message):
        return (ExecutionBlocker(message if verbose else None),)


NODES = (ReportRaise, ReportOutOfMemory, ReportBlock)
