"""The names that model code imports, or uses as default values, while ComfyUI starts."""

import enum


class InterpolationMode(enum.Enum):
    """The ways to interpolate, by their usual names."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


def normalize(*args, **kwargs):
    """Not there: no model of these tests needs it."""
    raise NotImplementedError("a stub of torchvision has no normalize")


def rotate(*args, **kwargs):
    """Not there: no model of these tests needs it."""
    raise NotImplementedError("a stub of torchvision has no rotate")
