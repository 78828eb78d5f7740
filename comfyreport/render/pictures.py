"""Pictures on a terminal: pixels made into what the terminal draws, by its own protocol or as half-blocks. Pure."""

from __future__ import annotations

import base64
import zlib
from typing import NamedTuple

from comfyreport.reporting.streams import Block, Stream

MOST_COLUMNS, MOST_ROWS = 80, 20
"""Cells of the largest picture: a larger one is much to send, and hides what else is told."""

_MOST_PIXELS = 400
"""Of a side: more is more to send, for each picture."""
_KITTY_ID = 1_668_246_637
_KITTY_CHUNK = 4096
_CUBE = 6
"""Levels of each colour where there are 216 in all, as terminals of 256 colours have them."""


class PictureSize(NamedTuple):
    """How large a picture is drawn: in cells, and in the pixels that `picture_block` takes."""

    columns: int
    rows: int
    width: int
    height: int


def picture_size(out: Stream, width: int, height: int, rows: int = MOST_ROWS) -> PictureSize | None:
    """How large a picture of *width* by *height* pixels is drawn on *out*; None where it can't be drawn.

    Its shape is kept, it has *rows* rows at most, and the live view has room below it.
    """
    protocol = out.pictures
    most_columns, most_rows = min(MOST_COLUMNS, out.width() - 1), min(rows, MOST_ROWS, out.height() - 10)
    if protocol is None or min(most_columns, most_rows, width, height) < 1:
        return None
    blocks = protocol.startswith("blocks")
    cell_width, cell_height = (1, 2) if blocks else out.cell_size()
    scale = min(most_columns * cell_width / width, most_rows * cell_height / height)
    if not blocks:
        scale = min(scale, _MOST_PIXELS / max(width, height))
    drawn_width, drawn_height = max(1, int(width * scale)), max(1, int(height * scale))
    # Half-blocks have two pixels a row, sixels six.
    step = 2 if blocks else 6
    drawn_height = max(step, drawn_height // step * step)
    return PictureSize(-(-drawn_width // cell_width), -(-drawn_height // cell_height), drawn_width, drawn_height)


def picture_block(out: Stream, rgb: bytes, size: PictureSize) -> Block | None:
    """What `out.show` takes to draw the pixels *rgb*, three bytes each, line by line; None where it can't be drawn."""
    protocol = out.pictures
    if protocol is None:
        return None
    if len(rgb) != 3 * size.width * size.height:
        raise ValueError(f"{len(rgb)} bytes are no picture of {size.width} by {size.height} pixels")
    if protocol == "kitty":
        return Block(_kitty(rgb, size), size.rows, f"\x1b_Ga=d,d=I,i={_KITTY_ID},q=2\x1b\\")
    if protocol == "iterm":
        return Block(_iterm(rgb, size), size.rows)
    if protocol == "sixel":
        return Block(_sixel(rgb, size), size.rows)
    return Block(_half_blocks(rgb, size, cube=protocol == "blocks256"), size.rows)


def _kitty(rgb: bytes, size: PictureSize) -> str:
    """Quiet (q=2), since an answer would stand in stdin; the cursor stays (C=1)."""
    data = base64.standard_b64encode(zlib.compress(rgb, 1)).decode()
    first = f"a=T,f=24,o=z,s={size.width},v={size.height},c={size.columns},r={size.rows},i={_KITTY_ID},p=1,C=1,q=2,"
    pieces = [data[start : start + _KITTY_CHUNK] for start in range(0, len(data), _KITTY_CHUNK)]
    return "".join(
        f"\x1b_G{'' if number else first}m={int(number < len(pieces) - 1)}{',q=2' if number else ''};{piece}\x1b\\"
        for number, piece in enumerate(pieces)
    )


def _iterm(rgb: bytes, size: PictureSize) -> str:
    data = _png(rgb, size.width, size.height)
    options = f"inline=1;size={len(data)};width={size.columns};height={size.rows};preserveAspectRatio=1"
    return f"\x1b]1337;File={options}:{base64.standard_b64encode(data).decode()}\x07"


def _png(rgb: bytes, width: int, height: int) -> bytes:
    """The pixels as a PNG, each line unfiltered."""
    lines = b"".join(b"\0" + rgb[start : start + 3 * width] for start in range(0, len(rgb), 3 * width))
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big") for name, data in chunks
    )


def _level(value: int) -> int:
    """The level of the cube that is nearest to a colour of 0 to 255."""
    return (value * (_CUBE - 1) + 127) // 255


_LEVELS = [bytes(_level(value) * factor for value in range(256)) for factor in (_CUBE * _CUBE, _CUBE, 1)]


def _cube(rgb: bytes) -> bytes:
    """The number of each pixel's colour among the 216; added up as large integers, which no loop is as fast as."""
    planes = (rgb[channel::3].translate(_LEVELS[channel]) for channel in range(3))
    return sum(int.from_bytes(plane, "big") for plane in planes).to_bytes(len(rgb) // 3, "big")


def _sixel(rgb: bytes, size: PictureSize) -> str:
    """Six lines at a time, once for each colour that is in them."""
    indexes, width = _cube(rgb), size.width
    used = sorted(set(indexes))
    percent = [round(100 * level / (_CUBE - 1)) for level in range(_CUBE)]
    colors = "".join(
        f"#{color};2;{percent[color // 36]};{percent[color // 6 % 6]};{percent[color % 6]}" for color in used
    )
    only = {color: bytes(int(index == color) for index in range(256)) for color in used}
    bands = []
    for start in range(0, len(indexes), 6 * width):
        lines = [indexes[at : at + width] for at in range(start, min(start + 6 * width, len(indexes)), width)]
        parts = []
        for color in sorted(set(indexes[start : start + 6 * width])):
            bits = sum(
                int.from_bytes(line.translate(only[color]), "big") << number for number, line in enumerate(lines)
            )
            sixels = (bits + int.from_bytes(b"?" * width, "big")).to_bytes(width, "big").decode("ascii")
            parts.append(f"#{color}{sixels}")
        bands.append("$".join(parts))
    return f'\x1bP0;1;0q"1;1;{width};{size.height}{colors}{"-".join(bands)}\x1b\\'


def _half_blocks(rgb: bytes, size: PictureSize, *, cube: bool) -> str:
    """Two pixels a cell: the upper one in the block's colour, the lower one in the background's."""
    width = size.width
    if cube:
        indexes = _cube(rgb)
        colors = [f"5;{16 + index}" for index in indexes]
    else:
        colors = [f"2;{rgb[at]};{rgb[at + 1]};{rgb[at + 2]}" for at in range(0, len(rgb), 3)]
    lines = []
    for start in range(0, len(colors), 2 * width):
        pairs = zip(colors[start : start + width], colors[start + width : start + 2 * width], strict=True)
        line, last = "", ("", "")
        for pair in pairs:
            line += "▀" if pair == last else f"\x1b[38;{pair[0]};48;{pair[1]}m▀"
            last = pair
        lines.append(f"{line}\x1b[0m")
    return "\r\n".join(lines)
