"""Checkpoints for recordings: the tiny one of the tests with the autoencoder that Stable Diffusion 1.5 really has.

The tiny autoencoder is so quick that nothing would be seen of it. Pictures are noise here, too; the times are those of
the real computation.
"""

from __future__ import annotations

from pathlib import Path

from tests.e2e.comfyui_env import key_of
from tests.e2e.tiny_checkpoint import Tensors, cached, conv, norm, text_encoder, unet

ROOT = "first_stage_model"
WIDTHS = (128, 256, 512, 512)
INNERMOST = WIDTHS[-1]


def _block(name: str, inside: int, outside: int) -> Tensors:
    yield from norm(f"{name}.norm1", inside)
    yield from conv(f"{name}.conv1", inside, outside)
    yield from norm(f"{name}.norm2", outside)
    yield from conv(f"{name}.conv2", outside, outside)
    if inside != outside:
        yield from conv(f"{name}.nin_shortcut", inside, outside, 1)


def _middle(name: str) -> Tensors:
    yield from _block(f"{name}.block_1", INNERMOST, INNERMOST)
    yield from norm(f"{name}.attn_1.norm", INNERMOST)
    for part in ("q", "k", "v", "proj_out"):
        yield from conv(f"{name}.attn_1.{part}", INNERMOST, INNERMOST, 1)
    yield from _block(f"{name}.block_2", INNERMOST, INNERMOST)


def _half(name: str, first: tuple[int, int], last: tuple[int, int], levels: list[tuple[int, int, int]]) -> Tensors:
    """Encoder or decoder: levels as (number, width inside, width outside)."""
    way, blocks = ("down", 2) if name == "encoder" else ("up", 3)
    root = f"{ROOT}.{name}"
    yield from conv(f"{root}.conv_in", *first)
    yield from _middle(f"{root}.mid")
    for number, inside, outside in levels:
        for block in range(blocks):
            yield from _block(f"{root}.{way}.{number}.block.{block}", outside if block else inside, outside)
        if number != levels[-1][0]:
            yield from conv(f"{root}.{way}.{number}.{way}sample.conv", outside, outside)
    yield from norm(f"{root}.norm_out", last[0])
    yield from conv(f"{root}.conv_out", *last)


def autoencoder() -> Tensors:
    """The autoencoder of Stable Diffusion 1.5."""
    inside = (WIDTHS[0], *WIDTHS)
    down = [(number, inside[number], width) for number, width in enumerate(WIDTHS)]
    above = (*WIDTHS[1:], INNERMOST)
    up = [(number, above[number], WIDTHS[number]) for number in reversed(range(len(WIDTHS)))]
    yield from _half("encoder", (3, WIDTHS[0]), (INNERMOST, 8), down)
    yield from _half("decoder", (4, INNERMOST), (WIDTHS[0], 3), up)
    yield from conv(f"{ROOT}.quant_conv", 8, 8, 1)
    yield from conv(f"{ROOT}.post_quant_conv", 4, 4, 1)


def checkpoint(blocks: int) -> Path:
    """A checkpoint in the cache whose transformers have so many blocks of attention."""
    name = f"timings-sd15-{blocks}-{key_of(Path(__file__))}"
    return cached(name, lambda: [*unet(blocks), *text_encoder(), *autoencoder()])
