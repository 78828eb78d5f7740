"""What the simulator knows about node classes: inputs, output types, which are outputs, which are asynchronous.

Only a few classes have their inputs declared, those that validation (recordings e and e33) and `/object_info` need.
Every other class is accepted with any inputs, on a strict server if ComfyUI has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from comfyreport.sim_nodes.settings import Settings

NOT_INSTALLED = "NotInstalled"
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

MODEL_FILE, UPLOADED_FILE = "FILES", "UPLOAD"
"""The types of inputs that name a file; in what goes to clients the type is the list of files."""

MODEL_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
"""What the name of a model file ends in."""

InputConfig = list[Any]
"""An input's declaration as ComfyUI writes it: `[type, options]`, the type a list of values for a choice."""


@dataclass(frozen=True, slots=True)
class NodeClass:
    """One node class."""

    inputs: dict[str, InputConfig]
    outputs: tuple[str, ...]
    category: str = "simulator"


def _int(default: int, low: int, high: int, **options: Any) -> InputConfig:
    return ["INT", {"default": default, "min": low, "max": high, **options}]


_MODEL: InputConfig = ["MODEL", {}]
_CLIP: InputConfig = ["CLIP", {}]
_VAE: InputConfig = ["VAE", {}]
_LATENT: InputConfig = ["LATENT", {}]
_IMAGE: InputConfig = ["IMAGE", {}]
_CONDITIONING: InputConfig = ["CONDITIONING", {}]
_TEXT: InputConfig = ["STRING", {}]
_SIZE = _int(512, 1, 16384, step=1)
_LATENT_SIZE = _int(512, 16, 16384, step=8)
_BATCH = _int(1, 1, 4096)
_SEED = _int(0, 0, 2**64 - 1)
_SCALED_SIZE = {"width": _int(512, 0, 16384, step=1), "height": _int(512, 0, 16384, step=1)}

NODE_CLASSES = {
    "CheckpointLoaderSimple": NodeClass({"ckpt_name": [MODEL_FILE, {}]}, ("MODEL", "CLIP", "VAE"), "loaders"),
    "CLIPTextEncode": NodeClass({"text": _TEXT, "clip": _CLIP}, ("CONDITIONING",), "conditioning"),
    "EmptyLatentImage": NodeClass(
        {"width": _LATENT_SIZE, "height": _LATENT_SIZE, "batch_size": _BATCH}, ("LATENT",), "latent"
    ),
    "KSampler": NodeClass(
        {
            "model": _MODEL,
            "seed": _SEED,
            "steps": _int(20, 1, 10000),
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
    "VAEDecode": NodeClass({"samples": _LATENT, "vae": _VAE}, ("IMAGE",), "latent"),
    "SaveImage": NodeClass({"images": _IMAGE, "filename_prefix": _TEXT}, (), "image"),
    "PreviewImage": NodeClass({"images": _IMAGE}, (), "image"),
    "LoadImage": NodeClass({"image": [UPLOADED_FILE, {"image_upload": True}]}, ("IMAGE", "MASK"), "image"),
    "EmptyImage": NodeClass({"width": _SIZE, "height": _SIZE, "batch_size": _BATCH}, ("IMAGE",), "image"),
    "ImageScale": NodeClass({"image": _IMAGE, **_SCALED_SIZE}, ("IMAGE",), "image/upscaling"),
    "ImageInvert": NodeClass({"image": _IMAGE}, ("IMAGE",), "image"),
    "ImageBlur": NodeClass(
        {
            "image": _IMAGE,
            "blur_radius": _int(1, 1, 31, step=1),
            "sigma": ["FLOAT", {"default": 1.0, "min": 0.1, "max": 10.0, "step": 0.1}],
        },
        ("IMAGE",),
        "image/postprocessing",
    ),
    "ControlNetLoader": NodeClass({"control_net_name": [MODEL_FILE, {}]}, ("CONTROL_NET",), "loaders"),
    "ConditioningAverage": NodeClass(
        {
            "conditioning_to": _CONDITIONING,
            "conditioning_from": _CONDITIONING,
            "conditioning_to_strength": ["FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}],
        },
        ("CONDITIONING",),
        "conditioning",
    ),
    # What goes in comes out, if anything does: see `nodes`.
    "SimulateError": NodeClass({}, ("*",)),
    "SimulateOutOfMemory": NodeClass({}, ("*",)),
    "SimulateBlock": NodeClass({}, ("*",)),
}

RETIRED = {
    "T2IAdapterLoader": ("ControlNetLoader", {"control_net_name": "t2i_adapter_name"}),
    "Load3DAnimation": ("Load3D", {}),
    "Preview3DAnimation": ("Preview3D", {}),
    "SDV_img2vid_Conditioning": ("SVD_img2vid_Conditioning", {}),
    "ConditioningAverage ": ("ConditioningAverage", {}),
}
"""Classes that 0.33 has no more: what takes their place, and which of its inputs were called what (recording e33)."""

# Class name, file suffix, key of the output; an empty suffix: by the node's `format`.
MEDIA_FORMATS = [
    ("SaveAnimatedWEBP", "webp", "images"),
    ("SaveAnimatedPNG", "png", "images"),
    ("SaveWEBM", "webm", "images"),
    ("SaveVideo", "mp4", "images"),
    ("VHS_VideoCombine", "", "gifs"),
    ("SaveAudioMP3", "mp3", "audio"),
    ("SaveAudioOpus", "opus", "audio"),
    ("SaveAudio", "flac", "audio"),
    ("PreviewAudio", "flac", "audio"),
    ("SaveGLB", "glb", "3d"),
]


# 3D: of what saves, the file suffix; of what previews, the beginning of the name and whether it is temporary.
MODEL_SAVERS = {"Save3DAdvanced": "glb", "SaveGaussianSplat": "ply", "SavePointCloud": "ply"}
MODEL_PREVIEWS = {
    "Preview3D": ("preview3d", "glb", False),
    "Preview3DAdvanced": ("preview3d_advanced", "glb", True),
    "PreviewGaussianSplat": ("preview_splat", "ply", True),
    "PreviewPointCloud": ("preview_pointcloud", "ply", True),
}

ASYNC_CLASSES = frozenset({"TestSleep"})
"""Classes that run beside each other."""
_OUTPUT_CLASS = re.compile(r"(Save|Preview)|(VHS_VideoCombine|ProbeOutput)$")


def is_installed(class_type: str, settings: Settings) -> bool:
    if class_type.endswith(NOT_INSTALLED) or (settings.newer and class_type in RETIRED):
        return False
    return not settings.strict or class_type in NODE_CLASSES or class_type in core_classes()


@cache
def core_classes() -> frozenset[str]:
    """The classes that ComfyUI 0.33.0 itself has, without those of API nodes."""
    names = resources.files("comfyreport.sim_nodes").joinpath("core_classes.txt").read_text(encoding="utf-8")
    return frozenset(names.splitlines())


def is_output(class_type: str) -> bool:
    """Whether a node of this class is run for its own sake."""
    return _OUTPUT_CLASS.match(class_type) is not None


def public_config(config: InputConfig, files: list[str] | None) -> InputConfig:
    """The declaration as clients see it; where any file is there (None), as a text."""
    if config[0] not in (MODEL_FILE, UPLOADED_FILE):
        return config
    if files is None:
        return ["STRING", config[1]]
    models = config[0] == MODEL_FILE
    return [[name for name in files if name.lower().endswith(MODEL_SUFFIXES) == models], config[1]]


def object_info(present: Iterable[str] | None) -> dict[str, Any]:
    """The answer of `/object_info`: ComfyUI's classes, without inputs where they aren't declared here.

    :param present: the files that are there, None for any.
    """
    files = None if present is None else sorted(present)
    others = dict.fromkeys(sorted(core_classes()), NodeClass({}, (), ""))
    return {name: _public_class(name, node_class, files) for name, node_class in {**others, **NODE_CLASSES}.items()}


def _public_class(name: str, node_class: NodeClass, files: list[str] | None) -> dict[str, Any]:
    return {
        "input": {"required": {key: public_config(config, files) for key, config in node_class.inputs.items()}},
        "input_order": {"required": list(node_class.inputs)},
        "output": list(node_class.outputs),
        "output_is_list": [False] * len(node_class.outputs),
        "output_name": list(node_class.outputs),
        "name": name,
        "display_name": name,
        "description": "",
        # What they take isn't known here: no client should think that they take nothing.
        "python_module": "nodes" if name in NODE_CLASSES else "custom_nodes.undeclared",
        "category": node_class.category,
        "output_node": is_output(name),
    }


def node_replacements() -> dict[str, Any]:
    """The answer of `/node_replacements`, for the classes that are gone."""
    answer = {}
    for old, (new, names) in RETIRED.items():
        mapping = [{"new_id": new_name, "old_id": old_name} for new_name, old_name in names.items()] or None
        replacement = {"new_node_id": new, "old_node_id": old, "old_widget_ids": None}
        answer[old] = [{**replacement, "input_mapping": mapping, "output_mapping": None}]
    return answer
