"""Small photographs, made for tests, as a tree and as shards."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("n01440764", "n01443537", "n02102040")
LABELS = (0, 1, 217)  # among the 1000


def pixels(seed: int, size: tuple[int, int] = (60, 44)) -> Image.Image:
    """Smooth noise, so that JPEG keeps most of it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, format: str = "JPEG", **keywords) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **keywords)
    return stream.getvalue()


def photo(seed: int, **keywords) -> bytes:
    return encoded(pixels(seed, (40 + seed % 37, 36 + seed % 23)), quality=90, **keywords)


def photographs(per_class: int = 4) -> dict[str, bytes]:
    """Files of both splits by name, in the order of an index."""
    return {
        f"{split}/{label}/{label}_{number}.JPEG": photo(100 * place + number + 50 * (split == "val"))
        for split in ("train", "val")
        for place, label in enumerate(CLASSES)
        for number in range(per_class)
    }


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, contents in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            tar.addfile(member, io.BytesIO(contents))


def write_shards(folder: Path, files: dict[str, bytes], per_shard: int = 3) -> str:
    """As webdataset's own writer lays them out, images and .cls. Returns their pattern."""
    from webdataset import ShardWriter

    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        pattern = str(folder / f"imagenet-{split}-%03d.tar")
        with ShardWriter(pattern, maxcount=per_shard, verbose=0) as writer:
            for name, contents in files.items():
                if name.startswith(split):
                    _, label, file = name.split("/")
                    key = file.removesuffix(".JPEG")
                    writer.write({"__key__": key, "jpg": contents, "cls": LABELS[CLASSES.index(label)]})
    return str(folder / "imagenet-{train,val}-{000..}.tar")
