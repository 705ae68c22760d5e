"""Claim: input/photos/decoding.py makes a training image in half the time of torchvision's transforms, and its pixels are theirs.

    python benchmarks/decoding.py FOLDER [runs]

FOLDER holds JPEG files, at any depth. Each way makes of each of them 224×224 pixels of the same random crop, in one process
on one CPU thread. Baseline: torchvision's references (Pillow, RandomResizedCrop, flip, PILToTensor, ConvertImageDtype,
Normalize). Ways whose package is not installed are left out. Prints the median over the runs (default 7) of the CPU time an
image takes, the ratio to the baseline, and the difference of the pixels from Pillow's crop and resize. Last come parts of
the work: the eighth scale does all entropy decoding and little else, so it is the floor of any decoder.
"""

import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import simplejpeg
import torch
import torchvision
from PIL import Image
from tabulate import tabulate
from torchvision import transforms

from input.datasets import DATASETS
from input.photos.crops import Box, crop_box, draws
from input.photos.decoding import random_image, resize

SIDE = 224
EIGHTH = {"min_width": 1, "min_height": 1, "min_factor": 8}
Way = Callable[[bytes, Box], np.ndarray | torch.Tensor | None]


def by_pillow(data: bytes, box: Box) -> np.ndarray:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(image.crop(box).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def by_draft(data: bytes, box: Box) -> np.ndarray:
    """Decode at a half, a quarter or an eighth where the crop keeps twice the target."""
    image = Image.open(io.BytesIO(data))
    size = image.size
    image.draft("RGB", tuple(2 * SIDE * whole // part for whole, part in zip(size, (box[2] - box[0], box[3] - box[1]))))
    scale = image.width / size[0]
    box = tuple(min(edge * scale, most) for edge, most in zip(box, image.size * 2))
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR, box, reducing_gap=2.0))


def cut(pixels: np.ndarray, box: Box) -> np.ndarray:
    return pixels[box[1] : box[3], box[0] : box[2]]


def by_torchvision(data: bytes, box: Box) -> torch.Tensor:
    mode = torchvision.io.ImageReadMode.RGB
    decoded = torchvision.io.decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode)
    return resize(cut(decoded.permute(1, 2, 0).numpy(), box), SIDE, SIDE)


def by_simplejpeg(data: bytes, box: Box) -> np.ndarray:
    pixels = Image.fromarray(cut(simplejpeg.decode_jpeg(data, strict=False), box))
    return np.asarray(pixels.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def by_simplejpeg_and_torch(data: bytes, box: Box) -> torch.Tensor:
    return resize(cut(simplejpeg.decode_jpeg(data, strict=False), box), SIDE, SIDE)


def optional() -> dict[str, Way]:
    ways: dict[str, Way] = {}
    try:
        import cv2

        cv2.setNumThreads(1)
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        ways["OpenCV's decoder, torch"] = lambda data, box: resize(
            cut(cv2.imdecode(np.frombuffer(data, np.uint8), flags), box), SIDE, SIDE
        )
    except ImportError:
        pass
    try:
        import imagecodecs

        def by_imagecodecs(data: bytes, box: Box) -> torch.Tensor:
            pixels = imagecodecs.jpeg8_decode(data)
            return resize(cut(pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2), box), SIDE, SIDE)

        ways["imagecodecs' decoder, torch"] = by_imagecodecs
    except ImportError:
        pass
    return ways


def main(folder: str, runs: int = 7) -> None:
    torch.set_num_threads(1)
    suffixes = (".jpg", ".jpeg")
    files = [path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.suffix.lower() in suffixes]
    drawn = draws(torch.arange(len(files)), seed=0, epoch=0)
    boxes = [crop_box(*Image.open(io.BytesIO(data)).size, draw) for data, draw in zip(files, drawn)]
    draw_of = dict(zip(map(id, files), drawn))
    imagenet = DATASETS["imagenet"]
    reference = transforms.Compose([
        transforms.RandomResizedCrop(SIDE), transforms.RandomHorizontalFlip(), transforms.PILToTensor(),
        transforms.ConvertImageDtype(torch.float), transforms.Normalize(imagenet.mean, imagenet.std),
    ])  # fmt: skip
    ways: dict[str, Way] = {
        "torchvision's references": lambda data, box: reference(Image.open(io.BytesIO(data)).convert("RGB")),
        "Pillow": by_pillow,
        "Pillow, draft and box": by_draft,
        "torchvision's decoder, torch": by_torchvision,
        **optional(),
        "simplejpeg, Pillow": by_simplejpeg,
        "simplejpeg, torch": by_simplejpeg_and_torch,
        "photos/decoding.py": lambda data, box: random_image(data, draw_of[id(data)], SIDE, flip=False),
        "only simplejpeg": lambda data, box: void(simplejpeg.decode_jpeg(data, strict=False)),
        "only simplejpeg, an eighth": lambda data, box: void(simplejpeg.decode_jpeg(data, strict=False, **EIGHTH)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs + 1):
        for name, way in ways.items():
            began = time.process_time()
            for data, box in zip(files, boxes):
                way(data, box)
            seconds[name].append(time.process_time() - began)
    baseline, rows = statistics.median(next(iter(seconds.values()))[1:]), []
    truth = [by_pillow(data, box).astype(int) for data, box in zip(files, boxes)]
    for name, way in ways.items():
        spent, row = statistics.median(seconds[name][1:]), [None, None]
        if way(files[0], boxes[0]) is not None and name != "torchvision's references":
            apart = [np.abs(np.asarray(way(data, box)) - right) for data, box, right in zip(files, boxes, truth)]
            row = [np.mean([each.mean() for each in apart]), max(each.max() for each in apart)]
        rows.append([name, 1000 * spent / len(files), len(files) / spent, baseline / spent, *row])
    print(f"{len(files)} images, median of {runs}")
    print(tabulate(rows, ["way", "ms", "images/s", "ratio", "mean difference", "largest"], floatfmt=(None, ".3f", ",.0f", ".2f", ".4f")))  # fmt: skip


def void(pixels: np.ndarray) -> None: ...


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
