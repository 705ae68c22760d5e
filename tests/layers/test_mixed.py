"""The grammar of mixed conv names: patterns, and what each decides."""

import doctest

import pytest

from layers import mixed
from layers.mixed import MixedName, brief, in_file_names, opened, parse_name, parse_open, several
from layers.registry import ConvName, OpenName, parse_conv
from system.errors import RequestError

LAYERS = [f"layer{stage}.{place}.conv{number}" for stage in (1, 2, 3) for place in (0, 1) for number in (1, 2)]


def families(text, layers=LAYERS):
    return {layer: name and name.family for layer, name in parse_name(text).decide(layers).items()}


def test_the_first_pattern_decides():
    found = parse_name("layer1=Conv,layer[23].0=SepHashed_0.1,.*=Generic_0.25").decide(LAYERS)
    for layer, name in found.items():
        expected = "Conv" if "layer1" in layer else "SepHashed_0.1" if ".0." in layer else "Generic_0.25"
        assert str(name) == expected
    rest = families("layer1=Sep")
    assert {layer for layer, family in rest.items() if family is None} == {
        each for each in LAYERS if "layer1" not in each
    }


@pytest.mark.parametrize(
    "text, canonical, patterns",
    [
        ("layer1 = Conv , .*=Generic_.250", "layer1=Conv,.*=Generic_0.25", ["layer1", ".*"]),
        ("layer[1,2]=ACDC_12,layer3=Tucker_0.50_3", "layer[1,2]=ACDC,layer3=Tucker_0.5", ["layer[1,2]", "layer3"]),
        ("r{1,2}1=Sep,.*=Conv", "r{1,2}1=Sep,.*=Conv", ["r{1,2}1", ".*"]),
        ("(?=layer1,?)l=Sep,.*=Conv", "(?=layer1,?)l=Sep,.*=Conv", ["(?=layer1,?)l", ".*"]),
        ("(?<!x=)layer1=Sep,.*=Conv", "(?<!x=)layer1=Sep,.*=Conv", ["(?<!x=)layer1", ".*"]),
        ("layer1\\.0|[],(]x=Sep,.*=Conv", "layer1\\.0|[],(]x=Sep,.*=Conv", ["layer1\\.0|[],(]x", ".*"]),
        ("[^],(]1=Sep,\\(|2=Conv", "[^],(]1=Sep,\\(|2=Conv", ["[^],(]1", "\\(|2"]),
        ("layer1=Shuffle_04,(?#a,[b=)2=Sep", "layer1=Shuffle_4,(?#a,[b=)2=Sep", ["layer1", "(?#a,[b=)2"]),
        ("a,?|1=Sep", None, "conv 'a' of 'a,?|1=Sep' is not of the form PATTERN=NAME"),
    ],
)
def test_what_a_pattern_may_hold(text, canonical, patterns):
    if canonical is None:
        with pytest.raises(RequestError) as error:
            parse_name(text)
        assert patterns in str(error.value)
        return
    name = parse_name(text)
    assert [regex for regex, _ in name.parts] == patterns
    assert str(name) == canonical and parse_name(canonical) == name and hash(name) == hash(parse_name(canonical))


@pytest.mark.parametrize(
    "text, told",
    [
        ("layer1=Conv,Sep", "conv 'Sep' of 'layer1=Conv,Sep' is not of the form PATTERN=NAME"),
        ("layer1=Conv,", "conv 'layer1=Conv,' has a comma too many"),
        ("layer1=Conv;.*=Sep", "the parts of a mixed name have commas between them, not semicolons"),
        ("=Conv", "conv '=Conv' has no pattern: '.*=Conv' is for all layers"),
        ("=", "conv '=' has no pattern: '.*=NAME' is for all layers"),
        ("layer1=,.*=Sep", "conv 'layer1=' says no name after its '='"),
        ("layer1=SepHahsed_0.1", "unknown conv 'SepHahsed_0.1'; did you mean SepHashed_s"),
        ("layer1=SepHashed", "conv 'SepHashed' is not of the form SepHashed_s (0 < s <= 1)"),
        ("layer[1=Conv,.*=Sep", "conv 'layer[1=Conv': 'layer[1' is not a regular expression"),
        ("layer(1=Conv,.*=Sep", "is not a regular expression: missing )"),
        ("layer1)=Conv,.*=Sep", "'layer1)' is not a regular expression"),
        ("layer\n1=Conv", "has a pattern with an unprintable character"),
    ],
)
def test_refused(text, told):
    with pytest.raises(RequestError) as error:
        parse_name(text)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_a_pattern_that_decides_no_layer():
    for text, told in (
        ("layr1=Conv,.*=Sep", "--conv 'layr1' matches none of the layers that can be swapped; did you mean 'layer1'?"),
        ("layer1=Conv,qqq=Sep", "'qqq' matches none of the layers that can be swapped, such as 'layer1.0.conv1'"),
        ("l=Conv,layer3=Sep", "'layer3' decides no layer: all that it matches are decided before it, as 'layer3.0.conv1' by 'l'"),
    ):  # fmt: skip
        with pytest.raises(RequestError) as error:
            families(text)
        assert told in str(error.value)


def test_open_names():
    name = parse_open("layer1=SepHashed_0.5,layer2=TensorTrain_x_4,.*=SepHashed")
    assert [type(each) for _, each in name.parts] == [ConvName, OpenName, OpenName]
    assert str(name.named(0.25)) == "layer1=SepHashed_0.5,layer2=TensorTrain_0.25_4,.*=SepHashed_0.25"
    assert str(opened(name.named(0.25))) == "layer1=SepHashed,layer2=TensorTrain_x_4,.*=SepHashed"
    assert parse_open("a=Conv,.*=Sep").number is None and str(opened(parse_conv("CP_0.5"))) == "CP"
    assert parse_open("a=BTT,.*=Kronecker").number.symbol == "r"
    with pytest.raises(RequestError, match="L .*and s .*are open: give one of them"):
        assert parse_open("a=ACDC,.*=SepHashed").number
    for text in ("a=ACDC_3,.*=Conv", "a=Conv,.*=SepHashed_0.1"):
        with pytest.raises(RequestError, match="finds the numbers that are left out, so leave one out"):
            parse_open(text)
    assert isinstance(parse_open("a=Conv,.*=ACDC"), MixedName)


def test_names_in_lists_files_and_figures():
    assert doctest.testmod(mixed).failed == 0
    assert several("Conv, ACDC") == ["Conv", "ACDC"] and several("a=Conv,.*=Sep") == ["a=Conv,.*=Sep"]
    long = ",".join(f"{layer}=SepHashed_0.{number}1" for number, layer in enumerate(LAYERS))
    assert len(in_file_names(long)) < 60 and in_file_names(long).replace("_", "").isalnum()
    assert in_file_names(long) != in_file_names(long.replace("0.1", "0.2"))
    assert brief(long).startswith("mixed SepHashed ") and len(brief(long)) < 60
