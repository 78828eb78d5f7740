"""What a simulated server is: which ComfyUI it resembles, and what is installed there."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

VERSION = "0.33.0"
"""The ComfyUI whose behaviour was observed last."""
SHIPPED_FILES = (
    "ae.safetensors",
    "clip_l.safetensors",
    "example.png",
    "flux1-dev.safetensors",
    "sd_xl_base_1.0.safetensors",
    "t5xxl_fp16.safetensors",
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    "v1-5-pruned-emaonly-fp16.safetensors",
    "wan2.1_t2v_1.3B_fp16.safetensors",
    "wan_2.1_vae.safetensors",
)
"""The models and inputs of the workflows that ship with comfyreport: what a strict server has."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`version`: 0.3.x is one generation, anything later the other. `previews`: its `--preview-method`.

    `files` are the model and input files that it has; None: every one that a workflow asks for. `strict`: only node
    classes of ComfyUI itself, and of the simulator, are installed, and only `files` are there.
    """

    version: str = VERSION
    previews: bool = True
    files: Collection[str] | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d+(\.\d+)+", self.version):
            raise ValueError(f"{self.version!r} is no version of ComfyUI, such as {VERSION}")

    @property
    def newer(self) -> bool:
        """Whether it behaves as 0.33 does: it throttles progress, wants UUIDs, and has a jobs API."""
        return not self.version.startswith("0.3.")

    @property
    def present(self) -> Collection[str] | None:
        """The files that there are from the start; None: every one."""
        return SHIPPED_FILES if self.strict and self.files is None else self.files
