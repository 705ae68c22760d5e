"""The number that meets a budget, against brute force over what the family can reach."""

import json
import re
from decimal import Decimal

import pytest
import torch

import count
from blocks import build_block, spec_of, swappable
from cli import options
from counting import costs as counting_costs
from counting.budget import resolve
from layers.mixed import parse_name
from layers.registry import FAMILIES, ConvName, Fraction, parse_conv
from layers.spec import ImpossibleShare
from models.build import build, reference
from system.errors import RequestError

WRN_28_10 = ["cifar10", "--wrn_depth", "28", "--wrn_width", "10"]
NOT_SWAPPED = 283_354  # parameters of WRN-28-10 that no conv changes
OPEN = [
    name
    for family, about in FAMILIES.items()
    if about.numbers
    for name in ([family] if len(about.numbers) == 1 else [family, f"{family}_x_4"])
]


def request(*arguments):
    return options.counting(arguments)


def layers_of_wrn():
    network = reference(request(*WRN_28_10))
    return [spec_of(network.get_submodule(name)) for name in swappable(network)]


SPECS = layers_of_wrn()


def params(conv):
    """Parameters of WRN-28-10 with a conv, by building each kind of layer. None where a layer cannot be so."""
    total = NOT_SWAPPED
    with torch.device("meta"):
        for spec in set(SPECS):
            try:
                total += SPECS.count(spec) * build_block(parse_conv(conv), spec).parameter_count()
            except ImpossibleShare:
                return None
    return total


def reached(name):
    """What a family's open name reaches: the cost of each, over small whole numbers or a grid."""
    head = name.partition("_")[0]
    if isinstance(FAMILIES[head].numbers[0], Fraction):
        numbers = [Decimal(n) / 1000 for n in (*range(1, 100, 4), *range(100, 1001, 25))]
        numbers += [Decimal(n) / 100_000 for n in (*range(1, 100, 5), *range(100, 500, 40))]
    else:
        numbers = (*range(FAMILIES[head].numbers[0].least, 25), *range(25, 200, 7))
    return [cost for cost in (params(with_number(name, number)) for number in numbers) if cost is not None]


def with_number(name, number):
    head, *later = name.split("_x")
    return f"{head}_{number}{''.join(later)}"


def near(text):
    """Numbers beside one that was found: the whole ones next to it, or those farther and farther away."""
    if "." not in text:
        return [int(text) + step for step in (-1, 1) if int(text) + step > 1]
    sides = [Decimal(text) * (1 + sign * Decimal(10) ** -place) for sign in (-1, 1) for place in range(1, 8)]
    return [each for each in sides if each <= 1]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name.endswith("_x_4") else ()) for name in OPEN]
)
def test_parameters(name):
    costs = reached(name)
    for budget in (1_000_000, 500_000, 300_000, 100_000):
        config = request(*WRN_28_10, "--conv", name, "--budget", str(budget))
        if not min(costs) <= budget <= max(costs):
            with pytest.raises(RequestError, match=f"{budget:,} parameters is out of reach for {name} .* in reach"):
                resolve(config)
            assert budget < 400_000 or max(costs) < budget or name in ("SepHashedFull", "BTT")
            continue
        assert budget != 100_000
        resolved, found = resolve(config)
        assert found.achieved == counting_costs.summary(resolved)["params"] == params(resolved["conv"])
        assert found.asked == budget and found.setting == resolved["conv"]
        (number,) = resolved["conv"].split("_")[1:2] or [str(FAMILIES[name].numbers[0].default)]
        beside = [cost for cost in (params(with_number(name, each)) for each in near(number)) if cost is not None]
        assert abs(found.achieved - budget) <= min(abs(cost - budget) for cost in [*costs, *beside])
        if "." in number:  # no shorter decimal gives the same: counts rise, so the next ones tell
            step = Decimal(10) ** (3 - len(number))
            below = Decimal(number) // step * step
            assert found.achieved not in {params(with_number(name, each)) for each in (below, below + step) if each}


def test_a_float_is_as_close_as_neighbouring_steps():
    """Beyond any grid: the next counts below and above are farther away."""
    resolved, found = resolve(request(*WRN_28_10, "--conv", "SepHashed", "--budget", "654321"))
    step = Decimal(1) / 10**9
    number = Decimal(resolved["conv"].split("_")[1])
    for direction in (-1, 1):
        near = number
        while params(f"SepHashed_{near}") == found.achieved:
            near += direction * step
            step *= 2
        assert abs(params(f"SepHashed_{near}") - 654321) >= abs(found.achieved - 654321)


def test_ties_go_to_the_smallest():
    resolved, found = resolve(request(*WRN_28_10, "--conv", "Shuffle", "--budget", "823674"))
    assert (resolved["conv"], found.achieved) == ("Shuffle_4", 823_674)  # 5, 6 and 7 are lowered to 4


@pytest.mark.parametrize("conv", ["ACDC", "Generic", "Shuffle", "TensorTrain_x_4", "LR", "Kronecker"])
def test_mult_adds(conv):
    small = request("cifar10", "--wrn_depth", "16", "--wrn_width", "2") | {"conv": conv}
    met = 0
    for budget in (2_500_000, 6_000_000, 9_000_000, 12_000_000):
        try:
            resolved, found = resolve(small | {"budget_mult_adds": budget})
        except RequestError as error:
            assert f"{budget:,} exact mult-adds is out of reach for {conv}" in str(error)
            continue
        met += 1
        assert counting_costs.summary(resolved)["mult_adds_exact"] == found.achieved and found.unit == "exact mult-adds"
        number, later = parse_conv(resolved["conv"]).numbers[0], parse_conv(resolved["conv"]).numbers[1:]
        for near in (0.97 * number, min(1.0, 1.03 * number)) if isinstance(number, float) else (number - 1, number + 1):
            if near >= 2 or isinstance(number, float):
                config = small | {"conv": str(ConvName(parse_conv(resolved["conv"]).family, (near, *later)))}
                assert abs(counting_costs.summary(config)["mult_adds_exact"] - budget) >= abs(found.achieved - budget)
    assert met


@pytest.mark.parametrize("conv, budgets", [("Conv", (1e6, 1e5)), ("Sep", (3e5,)), ("HashedDecimate", (3e5,))])
def test_the_width_meets_a_budget(conv, budgets):
    for budget in budgets:
        resolved, found = resolve(request(*WRN_28_10, "--conv", conv, "--budget", f"{budget:g}"))
        width = resolved["wrn_width"]
        costs = {
            w: counting_costs.summary(resolved | {"wrn_width": w, "budget": None})["params"] for w in neighbours(width)
        }
        assert costs[width] == found.achieved
        assert all(abs(cost - budget) >= abs(found.achieved - budget) for cost in costs.values())
        assert found.setting == f"{conv} with --wrn_width {width:g} (instead of 10)"


def test_a_width_on_a_step_is_found():
    resolved, found = resolve(request("cifar10", "--wrn_depth", "28", "--budget", "36479194"))
    assert (resolved["wrn_width"], found.achieved) == (10, 36_479_194)


def test_the_ends_are_in_reach():
    for batch in (7, 128):
        small = request("cifar10", "--wrn_depth", "16", "--wrn_width", "1") | {"conv": "Generic", "budget_mult_adds": 1}
        with pytest.raises(RequestError) as error:
            resolve(small, batch)
        ends = [
            int(end.replace(",", "")) for end in re.search(r"([0-9,]+) to ([0-9,]+) are", str(error.value)).groups()
        ]
        for end in ends:
            assert abs(resolve(small | {"budget_mult_adds": end}, batch)[1].achieved - end) < 1


def test_where_every_number_costs_the_same_it_is_a_small_one():
    config = request("cifar10", "--wrn_depth", "16", "--wrn_width", "1") | {"conv": "SepHashed"}
    cost = counting_costs.summary(config | {"conv": "SepHashed_0.1"})["mult_adds_exact"]
    assert resolve(config | {"budget_mult_adds": cost})[0]["conv"] == "SepHashed_0.1"


def neighbours(width):
    """Widths change something at multiples of 1/64."""
    return [width, (int(width * 64) - 1) / 64, int(width * 64) / 64, (int(width * 64) + 1) / 64]


def test_the_multiplier_meets_a_budget():
    resolved, found = resolve(request("imagenet", "--network", "MobileNetV2", "--budget_mult_adds", "1e8"))
    costs = [
        counting_costs.summary(resolved | {"width_mult": resolved["width_mult"] + d, "budget_mult_adds": None})[
            "mult_adds_exact"
        ]
        for d in (-0.05, 0, 0.05)
    ]
    assert costs[1] == found.achieved and costs[0] < 1e8 * 1.02 and costs[2] > 1e8
    assert abs(costs[1] - 1e8) == min(abs(cost - 1e8) for cost in costs)


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--conv", "SepHashed_0.1", "--budget", "1e6"], "a budget finds the number, so give SepHashed"),
        (["--conv", "TensorTrain_4", "--budget", "1e6"], "so give TensorTrain_x[_d] (2 <= d <= 9)"),
        (["--conv", "SepHashed", "--budget", "1e6", "--budget_mult_adds", "1e6"], "give one of them"),
        (["--conv", "SepHashed", "--budget", "0"], "'0' is not a number of at least 1"),
        (["--conv", "SepHashed", "--budget", "many"], "'many' is not a number"),
        (["--module", "a.py", "--budget", "1e6"], "--module has none"),
        (["--network", "DARTS", "--budget", "1e6"], "--conv Sep has no number to find, and --network DARTS no width"),
        (["--conv", "SepHahsed", "--budget", "1e6"], "did you mean SepHashed"),
        (["--conv", "SepHashed"], "is not of the form SepHashed_s"),
    ],
)
def test_refused(flags, told):
    with pytest.raises(RequestError) as error:
        options.counting(["cifar10", *flags])
    assert told in str(error.value)


def test_what_count_py_says_of_it(capsys):
    flags = ["cifar10", "--wrn_depth", "16", "--wrn_width", "1", "--conv", "SepHashed", "--budget", "2e4"]
    assert count.main(flags) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("Budget: 20,000 parameters asked, 19,999 achieved by SepHashed_0.")
    assert count.main([*flags, "--json"]) == 0
    costs = json.loads(capsys.readouterr().out)
    assert costs["budget"] == dict(
        asked=20_000, achieved=19_999, unit="parameters", setting=costs["conv"], of_given_width=None
    )
    assert costs["params"] == 19_999 and parse_conv(costs["conv"])


def test_compare(capsys):
    flags = ["cifar10", "--wrn_depth", "16", "--wrn_width", "1"]
    assert count.main([*flags, "--compare", "Conv,ACDC,SepHashedFull_0.9", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["conv"] for row in rows] == ["Conv", "ACDC", "SepHashedFull_0.9"]
    assert "stored numbers for" in rows[2]["error"]
    for row in rows[:2]:
        assert count.main([*flags, "--conv", row["conv"], "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == row
    assert count.main([*flags, "--compare", "Conv,ACDC,SepHashedFull_0.9"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 5 and "175,066" in table[2] and "18,026" in table[3] and "stored numbers for" in table[4]
    assert count.main([*flags, "--compare", "SepHashed,Conv", "--budget", "2e4"]) == 0
    assert "Conv with --wrn_width 0." in capsys.readouterr().out
    for wrong in (["--conv", "Sep"], ["--table"], ["--module", "a.py"]):
        with pytest.raises(RequestError, match="does not go with --compare"):
            options.counting([*flags, "--compare", "Conv,ACDC", *wrong])
    for nothing in (["Conv,ACDC", "--where", "zzz"], ["Conv,SepHashed", "--budget", "1"]):
        with pytest.raises(RequestError, match="zzz|a budget of 1 parameters is out of reach"):
            count.main([*flags, "--compare", *nothing])
    darts = ["cifar10", "--network", "DARTS", "--compare", "SepHashed,Sep", "--budget", "5e5"]
    assert count.main(darts) == 0
    assert "Sep has no number to find, and --network DARTS no width" in capsys.readouterr().out
    with pytest.raises(RequestError, match="unknown conv 'Cnv'"):
        options.counting([*flags, "--compare", "Conv,Cnv"])


def test_every_family_has_budgets():
    heads = {name.split("_")[0] for name in OPEN}
    assert heads == {family for family, about in FAMILIES.items() if about.numbers}
    assert {family for family, about in FAMILIES.items() if not about.variational} - heads == {
        "Conv",
        "Sep",
        "HashedDecimate",
        "SepHashedDecimate",
        "Butterfly",
    }


@pytest.mark.parametrize(
    "network, conv",
    [
        ("WideResNet", "groups.0=Conv,groups.1.0=SepHashed_0.2"),  # the rest stays
        ("WideResNet", "conv1=Hashed_0.1,.*=Tucker_0.5"),
        ("DARTS", "preprocess0=Conv,separable=SepHashed_0.2,.*=Generic_0.25"),
    ],
)
def test_counts_of_a_mixed_network_are_those_of_its_parts(network, conv):
    config = request("cifar10", "--network", network, "--conv", conv)
    built, counted = counting_costs.count(build(config), 32), counting_costs.costs_of(config)
    assert counted.layers == built.layers
    assert (counted.sanity, counted.stored_bytes) == (built.sanity, built.stored_bytes)
    names = [(regex, str(name)) for regex, name in parse_name(conv).parts]
    alone = [
        {layer.name: layer.parameters for layer in counting_costs.costs_of(config | {"conv": name}).layers}
        for _, name in names
    ]
    swaps = {swap.name for swap in counting_costs.partition(config).swaps}
    for layer in built.layers:
        place = next((at for at, (regex, _) in enumerate(names) if re.search(regex, layer.name)), None)
        if place is not None and layer.name in swaps:
            assert layer.parameters == alone[place][layer.name]


@pytest.mark.parametrize("unit", ["params", "mult_adds_exact"])
def test_one_number_for_all_open_layers_of_a_mixed_network(unit):
    """No neighbouring number comes closer, and what is fixed stays."""
    flags = ["cifar10", "--wrn_depth", "10", "--wrn_width", "2", "--conv"]
    conv = "groups.0.0.conv1=Generic_0.5,groups.2=Generic,.*=LR"
    costs = {s: counting_costs.summary(request(*flags, conv.replace("Generic,", f"Generic_{s},").replace("LR", f"LR_{s}")))[unit]
             for s in [round(0.05 * n, 2) for n in range(1, 21)]}  # fmt: skip
    for asked in (30_000, 55_000) if unit == "params" else (4_000_000, 7_000_000):
        budget = "--budget" if unit == "params" else "--budget_mult_adds"
        resolved, found = resolve(request(*flags, conv, budget, str(asked)))
        names = [str(name) for _, name in parse_name(resolved["conv"]).parts]
        assert names[0] == "Generic_0.5" and names[1].split("_")[1] == names[2].split("_")[1]
        assert found.achieved == counting_costs.summary(resolved)[unit] and found.setting == resolved["conv"]
        assert abs(found.achieved - asked) <= min(abs(cost - asked) for cost in costs.values())


def test_budgets_of_mixed_names_that_cannot_be(capsys):
    flags = ["cifar10", "--wrn_depth", "16", "--wrn_width", "1"]
    with pytest.raises(RequestError, match=r"L \(.*\) and s \(.*\) are open: give one of them, or --allocate"):
        request(*flags, "--conv", "groups.0=ACDC,.*=SepHashed", "--budget", "2e4")
    with pytest.raises(
        RequestError, match="5 parameters is out of reach for .*Conv.*=SepHashed .*: 17,229 to 35,114 are in reach"
    ):
        resolve(request(*flags, "--conv", "groups.0=Conv,.*=SepHashed", "--budget", "5"))
    with pytest.raises(RequestError, match="layer 'groups.0.0.conv1' .*cannot be Hashed_0.0001"):
        resolve(request(*flags, "--conv", "groups.0=Hashed_0.0001,.*=SepHashed", "--budget", "2e4"))
    resolved, found = resolve(request(*flags, "--conv", "groups.0=Conv,.*=Sep", "--budget", "2e4"))
    assert resolved["wrn_width"] < 1 and found.setting.startswith("groups.0=Conv,.*=Sep with --wrn_width 0.")
    assert count.main([*flags, "--compare", "groups.0=Conv,.*=SepHashed;ACDC", "--budget", "2e4", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["conv"].split("_")[0] for row in rows] == ["groups.0=Conv,.*=SepHashed", "ACDC"]


def test_where_narrows_what_patterns_see():
    flags = ["cifar10", "--wrn_depth", "10", "--conv", "conv1=Sep,groups.2=Generic_0.5", "--where"]
    kinds = {layer.name: layer.kind for layer in counting_costs.costs_of(request(*flags, "groups.[12]")).layers}
    assert kinds["groups.0.0.conv1"] == "Conv2d" and "Pointwise" in kinds["groups.1.0.conv1"]
    assert "Generic" in kinds["groups.2.0.conv2"] and kinds["groups.1.0.conv2"] == "Conv2d"
    with pytest.raises(RequestError, match="'groups.2' matches none"):
        counting_costs.costs_of(request(*flags, "groups.0"))
