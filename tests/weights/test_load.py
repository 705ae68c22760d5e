"""`from weights import load`: what it gives, and how it presents images."""

import numpy as np
import pytest
import torch
from PIL import Image

from input import presented
from input.photos.decoding import central_image
from input.presented import Presented
from system.errors import RequestError
from weights import load
from weights.classifier import _published


def test_an_image_is_presented_as_in_tests(tmp_path):
    """A photograph as `input.photos` decodes it for tests; a small image as it is, and others cut and resized."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    config = _published("torchvision:resnet18", 32)
    photograph = presented.of(config)
    expected = central_image((tmp_path / "x.png").read_bytes(), 32).float().div(255)
    expected = (expected - torch.tensor(photograph.mean)) / torch.tensor(photograph.std)
    for image in (Image.open(tmp_path / "x.png"), pixels, torch.from_numpy(pixels)):
        assert torch.allclose(photograph(image), expected.permute(2, 0, 1), atol=1e-5)
    small = Presented(60, (0.5,) * 3, (0.25,) * 3)
    assert torch.allclose(
        small(pixels[:, :60]), torch.from_numpy(pixels[:, :60]).permute(2, 0, 1) / 63.75 - 2, atol=1e-5
    )
    assert torch.equal(small(pixels), small(pixels[:, 15:75])) and small(pixels[..., 0]).shape == (3, 60, 60)
    for image in (pixels.astype(np.float32), np.zeros((3, 4, 5), np.uint8), "x.png", np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(RequestError, match="an image of Pillow is wanted, or its bytes"):
            small(image)


@pytest.mark.parametrize(
    "source, keywords, said",
    [
        ("nobody", {}, "no network 'nobody'"),
        ("no.pth", {}, "'no.pth' cannot be read"),
        ("torchvision:nobody", {}, "torchvision has no 'nobody'"),
        ("a:b", {}, "load: 'a:b' is neither of torchvision:NAME, timm:NAME"),
        ("x.onnx", {}, "load: 'x.onnx' is called as a file of a graph is: load takes a run, a file of safetensors"),
        ("w/x.pt2", {}, "load: 'w/x.pt2' is called as a file of a graph is"),
        ("nobody", {"image_size": 32}, "image_size is of published weights alone"),
    ],
)
def test_what_cannot_be_loaded(source, keywords, said, workplace):
    with pytest.raises(RequestError, match=said):
        load(source, **keywords)
