"""Decode photographs to pixels: (S, S, 3) RGB, cropped and resized. Any damage is one exception.

    random_image(data, draw, side=224)        # random crop and, if `draw` says so, mirrored
    central_image(data, side=224)             # shorter side to 256, central 224

Ordinary JPEGs go through simplejpeg (libjpeg-turbo), and only their rows down to the end of the crop: that takes half
of the time of torchvision's way through Pillow (benchmarks/decoding.py). Everything else goes through Pillow, which
also decides what is damaged. Images are resized by torch's bilinear antialiased filter on bytes, which equals Pillow's
but for rounding.
"""

import warnings
from collections.abc import Callable
from io import BytesIO
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from input.image_files import FORMATS, fault
from input.photos.crops import Box, Draw, central_box, crop_box, resized_size

LARGEST = 178_956_970  # pixels: twice the number at which Pillow warns of a decompression bomb
ROWS = 16  # of the largest common block of a JPEG; as many more are decoded, since colour is interpolated across blocks
SIZES, SKIPPED = (
    (0xC0, 0xC1, 0xC2),
    (0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE),
)  # markers: frames, tables and the like
END = b"\xff\xd9"


class Damaged(Exception):
    """These bytes are no photograph, or not all of one."""


class Frame(NamedTuple):
    """An ordinary JPEG's size, and `at` which byte of the file its height stands."""

    width: int
    height: int
    at: int


def random_image(data: bytes, draw: Draw, side: int, flip: bool = True) -> Tensor:
    """Return an image cropped by `draw` and resized, (side, side, 3) uint8.

    Raises Damaged where it cannot be decoded.
    """
    image = resize(decode(data, lambda width, height: crop_box(width, height, draw)), side, side)
    return image.flip(1) if flip and draw.flips else image


def central_image(data: bytes, side: int) -> Tensor:
    """Return an image resized and centrally cropped, (side, side, 3) uint8.

    Raises Damaged where it cannot be decoded.
    """
    pixels = decode(data, lambda width, height: (0, 0, width, height))
    columns, rows = resized_size(pixels.shape[1], pixels.shape[0], side)
    left, top, right, bottom = central_box(columns, rows, side)
    return resize(pixels, columns, rows)[top:bottom, left:right]


def resize(pixels: np.ndarray, columns: int, rows: int) -> Tensor:
    """Return (H, W, 3) uint8 as (rows, columns, 3), bilinear with antialiasing."""
    image = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)  # channels-last, as the result is then
    return F.interpolate(image, (rows, columns), mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def decode(data: bytes, box_of: Callable[[int, int], Box]) -> np.ndarray:
    """Return the part of an image that `box_of`(width, height) says, (h, w, 3) uint8 RGB.

    Raises Damaged where there is none.

    As in torchvision's loader, the orientation that a camera noted (EXIF) is ignored and transparency is dropped.
    """
    frame = ordinary_jpeg(data)
    if frame is not None:
        left, top, right, bottom = box_of(frame.width, frame.height)
        if (rows := _top_rows(data, frame, bottom)) is not None:
            return rows[top:bottom, left:right]
    return _by_pillow(data, box_of)


def ordinary_jpeg(data: bytes) -> Frame | None:
    """Return the frame of a whole JPEG of 1 or 3 components of 8 bits, coded by Huffman's method; else None."""
    at = 2
    while data[:2] == b"\xff\xd8" and data[at : at + 1] == b"\xff" and len(data) >= at + 10:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if marker in SIZES:
            height, width = int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9])
            plain = data[at + 4] == 8 and data[at + 9] in (1, 3) and 0 < width * height <= LARGEST
            whole = data.rfind(END, at) > 0  # after the frame's header, these two bytes occur nowhere else
            return Frame(width, height, at + 5) if plain and whole else None
        if marker not in SKIPPED:
            return None
        at += 2 + length
    return None


def _top_rows(data: bytes, frame: Frame, bottom: int) -> np.ndarray | None:
    """Return at least the rows above `bottom`: where the header tells of fewer rows, a decoder stops there.

    It is not strict: like Pillow, it ignores what libjpeg only warns of. None where decoding fails.
    """
    from simplejpeg import decode_jpeg

    needed = -(-bottom // ROWS) * ROWS + ROWS
    if needed < frame.height:
        data = data[: frame.at] + needed.to_bytes(2) + data[frame.at + 2 :]
    try:
        return decode_jpeg(data, strict=False)
    except ValueError:
        return None


def _by_pillow(data: bytes, box_of: Callable[[int, int], Box]) -> np.ndarray:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > LARGEST:
                    raise Damaged(f"{image.width} × {image.height} pixels are too many")
                if image.mode == "F":
                    raise Damaged("its pixels are floating-point, and nothing says how they become colours")
                box = box_of(*image.size)
                if image.mode.startswith("I"):  # 16 bits: Pillow would clip all values above 255
                    grey = (np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)
                    image = Image.fromarray(grey)
                return np.array(image.convert("RGB").crop(box))
    except Damaged:
        raise
    except Exception as error:  # whatever a damaged file makes Pillow raise
        raise Damaged(fault(error))
