"""What the test nodes have in common."""

import time

import comfy.model_management

COUNT = {"default": 4, "min": 0, "max": 100000}
SECONDS = {"default": 0.05, "min": 0.0, "max": 3600.0, "step": 0.01}
SLICE = 0.05


class Passing:
    """A node that takes an image and gives it back."""

    CATEGORY = "comfyreport tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    HIDDEN = {}
    INPUTS = {}

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), **cls.INPUTS}, "hidden": dict(cls.HIDDEN)}


def wait(seconds, interruptible=True):
    """Sleep; an interrupt ends it within a moment, as it ends a sampler between its steps."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if interruptible:
            comfy.model_management.throw_exception_if_processing_interrupted()
        time.sleep(min(left, SLICE))
