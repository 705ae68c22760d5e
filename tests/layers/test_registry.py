"""The grammar of conv names."""

import pytest

from layers.registry import FAMILIES, ConvName, parse_conv, parse_family
from system.errors import RequestError


@pytest.mark.parametrize(
    "text, name, canonical",
    [
        ("Conv", ConvName("Conv"), "Conv"),
        ("Sep", ConvName("Sep"), "Sep"),
        ("Generic_0.10", ConvName("Generic", (0.1,)), "Generic_0.1"),
        ("SepHashed_.5", ConvName("SepHashed", (0.5,)), "SepHashed_0.5"),
        ("SepHashed_1", ConvName("SepHashed", (1.0,)), "SepHashed_1"),
        ("ACDC", ConvName("ACDC", (12,)), "ACDC"),
        ("ACDC_12", ConvName("ACDC", (12,)), "ACDC"),
        ("OriginalACDC_48", ConvName("OriginalACDC", (48,)), "OriginalACDC_48"),
        ("TensorTrain_0.8", ConvName("TensorTrain", (0.8, 3)), "TensorTrain_0.8"),
        ("Tucker_0.80_3", ConvName("Tucker", (0.8, 3)), "Tucker_0.8"),
        ("CP_0.4_4", ConvName("CP", (0.4, 4)), "CP_0.4_4"),
        ("HashedDecimate", ConvName("HashedDecimate"), "HashedDecimate"),
        ("Generic_1e-05", ConvName("Generic", (1e-05,)), "Generic_1e-05"),
        ("Shuffle_04", ConvName("Shuffle", (4,)), "Shuffle_4"),
        ("Butterfly", ConvName("Butterfly"), "Butterfly"),
        ("BTT_02", ConvName("BTT", (2,)), "BTT_2"),
        ("Tucker_0.5_9", ConvName("Tucker", (0.5, 9)), "Tucker_0.5_9"),
    ],
)
def test_parse(text, name, canonical):
    assert parse_conv(text) == name
    assert str(name) == canonical
    assert parse_conv(canonical) == name


@pytest.mark.parametrize(
    "text, told",
    [
        ("SepHahsed_0.1", "did you mean SepHashed_s (0 < s <= 1)?"),
        ("shuffle_4", "did you mean Shuffle_g (g >= 1, whole)?"),
        ("Cnv_0.1", "did you mean Conv?"),
        ("qqq", "known: Conv, Sep, Generic_s, LR_s, Hashed_s, HashedDecimate"),
        ("", "unknown conv ''"),
        ("Conv_1", "not of the form Conv"),
        ("Generic", "not of the form Generic_s (0 < s <= 1)"),
        ("Generic_0", "0 < s <= 1"),
        ("Generic_1.5", "0 < s <= 1"),
        ("Generic_-0.5", "0 < s <= 1"),
        ("Generic_nan", "0 < s <= 1"),
        ("Generic_inf", "0 < s <= 1"),
        ("Generic_0.1_3", "0 < s <= 1"),
        ("Generic_٠.١", "0 < s <= 1"),
        ("SepHashed_", "0 < s <= 1"),
        ("Shuffle_0", "g >= 1, whole"),
        ("Shuffle_2.5", "g >= 1, whole"),
        ("Shuffle_99999999999999", "g >= 1, whole"),
        ("acdc", "did you mean ACDC[_L] (L >= 2, whole; 12 if left out)?"),
        ("ACDC_1", "L >= 2, whole"),
        ("ACDC_", "L >= 2, whole"),
        ("ACDC_12_3", "ACDC[_L]"),
        ("TensorTrain", "TensorTrain_s[_d] (0 < s <= 1, 2 <= d <= 9; 3 if left out)"),
        ("TensorTrain_4_0.8", "0 < s <= 1"),
        ("TensorTrain_0.8_1", "2 <= d <= 9"),
        ("Tucker_0.8_10", "2 <= d <= 9"),
        ("CP_0.8_4_1", "2 <= d <= 9"),
        ("TensorTrain_x_4", "0 < s <= 1"),
        ("Butterfly_2", "not of the form Butterfly"),
        ("Monarch", "not of the form Monarch_b (b >= 1, whole)"),
        ("Kronecker_0", "r >= 1, whole"),
        ("HashedDecimate_0.1", "not of the form HashedDecimate"),
    ],
)
def test_refused(text, told):
    with pytest.raises(RequestError) as error:
        parse_conv(text)
    assert told in str(error.value) and repr(text) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, canonical, named",
    [
        ("SepHashed", "SepHashed", "SepHashed_1"),
        ("ACDC", "ACDC", "ACDC_1"),
        ("TensorTrain", "TensorTrain", "TensorTrain_1"),
        ("TensorTrain_x", "TensorTrain", "TensorTrain_1"),
        ("TensorTrain_x_3", "TensorTrain", "TensorTrain_1"),
        ("Tucker_x_4", "Tucker_x_4", "Tucker_1_4"),
        ("Conv", "Conv", None),
    ],
)
def test_open_names(text, canonical, named):
    name = parse_family(text)
    assert str(name) == canonical and parse_family(canonical) == name
    assert (name.number is None) if named is None else str(name.named(1)) == named


def test_every_family_points_to_a_class():
    from importlib import import_module

    for family in FAMILIES.values():
        module, name = family.target.split(":")
        assert isinstance(getattr(import_module(module), name), type)
