"""The grammar of run names, and what a source of weights is."""

import pytest

from system.errors import RequestError
from weights.sources import check_run_name, check_source, file_and_key, is_file, is_published, is_run


@pytest.mark.parametrize(
    "name", ["a", "wrn_28_10.acdc.student.Dec11", "x.Dec11", "wrn.pt.2", "A+b-c_9", "pt", "x" * 100]
)
def test_run_names(name):
    assert check_run_name(name, "-s") == name


@pytest.mark.parametrize(
    "name",
    ["x.pth", "model.pth.tar", "x.pt", "x.PT", "x.pt7", "last.ckpt", "pytorch_model.bin", "a.safetensors", "x.pt:ema"],
)
def test_a_run_is_not_called_as_files_are(name):
    with pytest.raises(RequestError, match="would be taken for a file of weights"):
        check_run_name(name, "-t")


@pytest.mark.parametrize(
    "source, kind",
    [
        ("t", is_run), ("x.Dec11", is_run), ("bin", is_run), ("pth", is_run), ("torchvision", is_run),
        ("timm.x", is_run),
        ("x.pt", is_file), ("model.bin", is_file), ("x.pt7", is_file), ("X.CKPT", is_file), ("x.safetensors", is_file),
        ("x.pth:model_ema", is_file), ("./x:a.b", is_file),
        ("x.pth", is_file), ("x.pth.tar", is_file), ("./x.pt", is_file), ("/a/b", is_file), ("a:b/c", is_file),
        ("é b.pth", is_file),
        ("torchvision:mobilenet_v2", is_published), ("timm:a/b.pth", is_published), ("torchvision:x:Y", is_published),
    ],
)  # fmt: skip
def test_sources_are_of_one_kind_whatever_is_there(source, kind):
    assert check_source(source, "-t") == source
    assert [each(source) for each in (is_run, is_file, is_published)] == [
        each is kind for each in (is_run, is_file, is_published)
    ]


@pytest.mark.parametrize(
    "source, parts",
    [
        ("x.pth", ("x.pth", None)),
        ("x.pth:a.b", ("x.pth", "a.b")),
        ("w/x.ckpt:state_dict.net", ("w/x.ckpt", "state_dict.net")),
        ("./x:model", ("./x", "model")),
        ("a:b/c", ("a:b/c", None)),
        ("a:b/c:d", ("a:b/c", "d")),
        ("x.pth:", ("x.pth", "")),
    ],
)
def test_a_key_follows_a_file(source, parts):
    assert file_and_key(source) == parts


@pytest.mark.parametrize("source", ["", "a b", "timm:", "hub:resnet", "c:\\x", "~", ":x", "x.pth:", "./x:"])
def test_sources_that_cannot_be(source):
    with pytest.raises(RequestError):
        check_source(source, "-t")


@pytest.mark.parametrize("name", ["", ".", "..", "...", "a/b", "a b", "é", "x" * 101, "a\n", "a\0", "../x", "-_."])
def test_refused_run_names(name):
    with pytest.raises(RequestError, match="1 to 100 letters"):
        check_run_name(name, "-s")
