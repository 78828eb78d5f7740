"""Imported by ComfyUI under this name; nothing in these tests calls it."""

from torchvision.transforms.functional import InterpolationMode

__all__ = ["InterpolationMode"]
