"""Writes a checkpoint with random weights in the shape of Stable Diffusion 1.5, as small as a ComfyUI takes it.

What the server looks at to recognise SD 1.5 is kept (320 channels, text of width 768, convolutions around
the attention); the rest is cut: the UNet has one level with one block and no middle, the decoder is the tiny
one that the server knows by its names. The text encoder keeps all its layers: the server would
leave missing ones uninitialised. Pictures are noise, but every node of a stock workflow does its real work.

The safetensors format is simple enough to be written with the standard library alone.
"""

from __future__ import annotations

import json
import math
import os
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tests.e2e.comfyui_env import cache_folder, file_lock, key_of, say

CHANNELS = 320
TIME = 4 * CHANNELS
TEXT = 768
TEXT_LAYERS = 12
VOCABULARY = 49408
ATTENTION_BLOCKS = 1  # in the one transformer of each UNet block: sets the time that a step takes
POOL = 262_147  # a prime, so that repeated values fall on other places in every tensor
SPREAD = 0.03  # of the weights: keeps what passes through layers of this width in bounds
DECODER_SPREAD = 0.045  # the decoder is narrower; this much, around a middle grey, gives pictures full range
LAST_BIAS = "taesd_decoder.19.bias"

Shape = tuple[int, ...]
Tensors = Iterator[tuple[str, Shape]]


def _linear(name: str, inside: int, outside: int, *, bias: bool = True) -> Tensors:
    yield f"{name}.weight", (outside, inside)
    if bias:
        yield f"{name}.bias", (outside,)


def conv(name: str, inside: int, outside: int, size: int = 3, *, bias: bool = True) -> Tensors:
    yield f"{name}.weight", (outside, inside, size, size)
    if bias:
        yield f"{name}.bias", (outside,)


def norm(name: str, width: int) -> Tensors:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _residual(name: str, inside: int, outside: int) -> Tensors:
    """One residual block of the UNet."""
    yield from norm(f"{name}.in_layers.0", inside)
    yield from conv(f"{name}.in_layers.2", inside, outside)
    yield from _linear(f"{name}.emb_layers.1", TIME, outside)
    yield from norm(f"{name}.out_layers.0", outside)
    yield from conv(f"{name}.out_layers.3", outside, outside)
    if inside != outside:
        yield from conv(f"{name}.skip_connection", inside, outside, 1)


def _attention(name: str, width: int, context: int) -> Tensors:
    yield from _linear(f"{name}.to_q", width, width, bias=False)
    yield from _linear(f"{name}.to_k", context, width, bias=False)
    yield from _linear(f"{name}.to_v", context, width, bias=False)
    yield from _linear(f"{name}.to_out.0", width, width)


def _transformer(name: str, width: int, blocks: int) -> Tensors:
    """One spatial transformer of the UNet."""
    yield from norm(f"{name}.norm", width)
    yield from conv(f"{name}.proj_in", width, width, 1)
    for number in range(blocks):
        block = f"{name}.transformer_blocks.{number}"
        for place in ("norm1", "norm2", "norm3"):
            yield from norm(f"{block}.{place}", width)
        yield from _attention(f"{block}.attn1", width, width)
        yield from _attention(f"{block}.attn2", width, TEXT)
        yield from _linear(f"{block}.ff.net.0.proj", width, 8 * width)
        yield from _linear(f"{block}.ff.net.2", 4 * width, width)
    yield from conv(f"{name}.proj_out", width, width, 1)


def unet(blocks: int = ATTENTION_BLOCKS) -> Tensors:
    """A UNet of one level with one block, in whose transformers are so many blocks of attention."""
    root = "model.diffusion_model"
    yield from _linear(f"{root}.time_embed.0", CHANNELS, TIME)
    yield from _linear(f"{root}.time_embed.2", TIME, TIME)
    yield from conv(f"{root}.input_blocks.0.0", 4, CHANNELS)
    yield from _residual(f"{root}.input_blocks.1.0", CHANNELS, CHANNELS)
    yield from _transformer(f"{root}.input_blocks.1.1", CHANNELS, blocks)
    for number in range(2):
        yield from _residual(f"{root}.output_blocks.{number}.0", 2 * CHANNELS, CHANNELS)
        yield from _transformer(f"{root}.output_blocks.{number}.1", CHANNELS, blocks)
    yield from norm(f"{root}.out.0", CHANNELS)
    yield from conv(f"{root}.out.2", CHANNELS, 4)


def text_encoder() -> Tensors:
    """The text encoder CLIP-L."""
    root = "cond_stage_model.transformer.text_model"
    yield f"{root}.embeddings.token_embedding.weight", (VOCABULARY, TEXT)
    yield f"{root}.embeddings.position_embedding.weight", (77, TEXT)
    for number in range(TEXT_LAYERS):
        layer = f"{root}.encoder.layers.{number}"
        yield from norm(f"{layer}.layer_norm1", TEXT)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _linear(f"{layer}.self_attn.{part}", TEXT, TEXT)
        yield from norm(f"{layer}.layer_norm2", TEXT)
        yield from _linear(f"{layer}.mlp.fc1", TEXT, 4 * TEXT)
        yield from _linear(f"{layer}.mlp.fc2", 4 * TEXT, TEXT)
    yield from norm(f"{root}.final_layer_norm", TEXT)


# The places of the layers in the two halves of the tiny autoencoder, in one list each:
# blocks of three convolutions, convolutions without a bias, and the last convolution.
ENCODER = ((1, 3, 4, 5, 7, 8, 9, 11, 12, 13), (2, 6, 10), 14)
DECODER = ((3, 4, 5, 8, 9, 10, 13, 14, 15, 18), (7, 12, 17), 19)


def autoencoder() -> Tensors:
    """The tiny autoencoder, 64 channels wide."""
    root = "first_stage_model"
    yield f"{root}.vae_scale", ()
    yield f"{root}.vae_shift", ()
    halves = (("taesd_encoder", ENCODER, 0, 3, 4), ("taesd_decoder", DECODER, 1, 4, 3))
    for half, (blocks, plain, last), first, inside, outside in halves:
        yield from conv(f"{root}.{half}.{first}", inside, 64)
        for place in blocks:
            for part in (0, 2, 4):
                yield from conv(f"{root}.{half}.{place}.conv.{part}", 64, 64)
        for place in plain:
            yield from conv(f"{root}.{half}.{place}", 64, 64, bias=False)
        yield from conv(f"{root}.{half}.{last}", 64, outside)


def _pool(spread: float) -> bytes:
    """Random values as 16 bit floats, the same ones every time."""
    source = random.Random(1)
    return struct.pack(f"<{POOL}e", *(source.gauss(0.0, spread) for _ in range(POOL)))


def _content(name: str, shape: Shape, start: int, pool: bytes) -> bytes:
    """The values of one tensor as 16 bit floats: biases 0, norms and scales 1, weights from the random pool."""
    count = math.prod(shape)
    if name.endswith(LAST_BIAS):
        return struct.pack("<e", 0.5) * count
    if name.endswith((".bias", ".vae_shift")):
        return bytes(2 * count)
    if len(shape) < 2:
        return struct.pack("<e", 1.0) * count
    begin = 2 * (start % POOL)
    return (pool[begin:] + pool * (count // POOL + 1))[: 2 * count]


def write(handle: BinaryIO, tensors: Sequence[tuple[str, Shape]]) -> None:
    """Write a checkpoint of these tensors: the header's length, the header, the values."""
    pool, decoder_pool = _pool(SPREAD), _pool(DECODER_SPREAD)
    header: dict[str, object] = {}
    offset = 0
    for name, shape in tensors:
        end = offset + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    handle.write(struct.pack("<Q", len(text)) + text)
    for number, (name, shape) in enumerate(tensors):
        chosen = decoder_pool if "taesd_decoder" in name else pool
        handle.write(_content(name, shape, 7919 * number, chosen))


def ensure() -> Path:
    """The checkpoint of this very script, written now if the cache doesn't have it."""
    return cached(f"tiny-sd15-{key_of(Path(__file__))}", lambda: [*unet(), *text_encoder(), *autoencoder()])


def cached(name: str, tensors: Callable[[], Sequence[tuple[str, Shape]]]) -> Path:
    """The checkpoint of that name in the cache, written now if it isn't there."""
    cache = cache_folder()
    path = cache / f"{name}.safetensors"
    if not path.is_file():
        with file_lock(cache / "checkpoint.lock"):
            if not path.is_file():
                partial = path.with_suffix(".partial")
                with partial.open("wb") as handle:
                    write(handle, tensors())
                os.replace(partial, path)
                say(f"wrote {path} ({path.stat().st_size / 1e6:.0f} MB)")
    return path
