"""What the simulator knows about node classes: inputs, output types, which are outputs, which are asynchronous.

Only a few classes have their inputs declared, those that validation (recording e) and `/object_info` need. Every
other class is accepted with any inputs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

MISSING = "NotInstalled"
"""A class whose name ends in this is not installed: the way to a `missing class` answer."""


def _words(text: str) -> list[str]:
    return text.split()


SAMPLERS = _words("""
euler euler_cfg_pp euler_ancestral euler_ancestral_cfg_pp heun heunpp2 dpm_2 dpm_2_ancestral lms dpm_fast
dpm_adaptive dpmpp_2s_ancestral dpmpp_2s_ancestral_cfg_pp dpmpp_sde dpmpp_sde_gpu dpmpp_2m
dpmpp_2m_cfg_pp dpmpp_2m_sde dpmpp_2m_sde_gpu dpmpp_2m_sde_heun dpmpp_2m_sde_heun_gpu dpmpp_3m_sde
dpmpp_3m_sde_gpu ddpm lcm ipndm ipndm_v deis res_multistep res_multistep_cfg_pp res_multistep_ancestral
res_multistep_ancestral_cfg_pp gradient_estimation gradient_estimation_cfg_pp er_sde seeds_2 seeds_3
sa_solver sa_solver_pece ddim uni_pc uni_pc_bh2
""")
SCHEDULERS = _words("simple sgm_uniform karras exponential ddim_uniform beta normal linear_quadratic kl_optimal")

FILES = "FILES"
"""The type of an input that names a model file; in what goes to clients it is the list of files."""

Config = list[Any]
"""An input's declaration as ComfyUI writes it: `[type, options]`, the type a list of values for a choice."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One node class."""

    inputs: dict[str, Config]
    outputs: tuple[str, ...]
    category: str = "simulator"


def _whole(default: int, low: int, high: int, **more: Any) -> Config:
    return ["INT", {"default": default, "min": low, "max": high, **more}]


_MODEL: Config = ["MODEL", {}]
_CLIP: Config = ["CLIP", {}]
_VAE: Config = ["VAE", {}]
_LATENT: Config = ["LATENT", {}]
_IMAGE: Config = ["IMAGE", {}]
_CONDITIONING: Config = ["CONDITIONING", {}]
_TEXT: Config = ["STRING", {}]
_SIDE = _whole(512, 1, 16384, step=1)
_LATENT_SIDE = _whole(512, 16, 16384, step=8)
_BATCH = _whole(1, 1, 4096)
_SEED = _whole(0, 0, 2**64 - 1)
_SCALED = {"width": _whole(512, 0, 16384, step=1), "height": _whole(512, 0, 16384, step=1)}

SPECS = {
    "CheckpointLoaderSimple": Spec({"ckpt_name": [FILES, {}]}, ("MODEL", "CLIP", "VAE"), "loaders"),
    "CLIPTextEncode": Spec({"text": _TEXT, "clip": _CLIP}, ("CONDITIONING",), "conditioning"),
    "EmptyLatentImage": Spec(
        {"width": _LATENT_SIDE, "height": _LATENT_SIDE, "batch_size": _BATCH}, ("LATENT",), "latent"
    ),
    "KSampler": Spec(
        {
            "model": _MODEL,
            "seed": _SEED,
            "steps": _whole(20, 1, 10000),
            "cfg": ["FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0, "step": 0.1, "round": 0.01}],
            "sampler_name": [SAMPLERS, {}],
            "scheduler": [SCHEDULERS, {}],
            "positive": _CONDITIONING,
            "negative": _CONDITIONING,
            "latent_image": _LATENT,
            "denoise": ["FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}],
        },
        ("LATENT",),
        "sampling",
    ),
    "VAEDecode": Spec({"samples": _LATENT, "vae": _VAE}, ("IMAGE",), "latent"),
    "SaveImage": Spec({"images": _IMAGE, "filename_prefix": _TEXT}, (), "image"),
    "PreviewImage": Spec({"images": _IMAGE}, (), "image"),
    "LoadImage": Spec({"image": ["UPLOAD", {"image_upload": True}]}, ("IMAGE", "MASK"), "image"),
    "EmptyImage": Spec({"width": _SIDE, "height": _SIDE, "batch_size": _BATCH}, ("IMAGE",), "image"),
    "ImageScale": Spec({"image": _IMAGE, **_SCALED}, ("IMAGE",), "image/upscaling"),
    "ImageInvert": Spec({"image": _IMAGE}, ("IMAGE",), "image"),
}

ASYNC = frozenset({"TestSleep"})
"""Classes that run beside each other."""
_OUTPUT_NAME = re.compile(r"(Save|Preview)|(VHS_VideoCombine|ProbeOutput)$")


def is_installed(class_type: str) -> bool:
    return not class_type.endswith(MISSING)


def is_output(class_type: str) -> bool:
    """Whether a node of this class is run for its own sake."""
    return _OUTPUT_NAME.match(class_type) is not None


def declared(config: Config, files: list[str]) -> Config:
    """The declaration as clients see it."""
    return [files, config[1]] if config[0] in (FILES, "UPLOAD") else config


def object_info(files: list[str]) -> dict[str, Any]:
    """The answer of `/object_info`, for the declared classes."""
    return {
        name: {
            "input": {"required": {key: declared(config, files) for key, config in spec.inputs.items()}},
            "input_order": {"required": list(spec.inputs)},
            "output": list(spec.outputs),
            "output_is_list": [False] * len(spec.outputs),
            "output_name": list(spec.outputs),
            "name": name,
            "display_name": name,
            "description": "",
            "python_module": "nodes",
            "category": spec.category,
            "output_node": is_output(name),
        }
        for name, spec in SPECS.items()
    }
