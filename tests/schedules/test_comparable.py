"""Which runs share a figure and a line, and what their labels and captions say. The studies are made up."""

import pytest
import study_samples as samples
from drawn import artists, study

from schedules import plot
from schedules.comparable import setup
from schedules.figures import style
from schedules.figures.curves import curves
from schedules.figures.tradeoff import tradeoff
from schedules.page import data


@pytest.fixture(autouse=True)
def the_style():
    with style.drawing():
        yield


def test_a_caption_counts_runs_without_a_configuration(tmp_path):
    lost = samples.run("ACDC", 0, state="failed", name="lost") | {"dataset": None, "network": None}
    (pair,) = study(tmp_path, [*samples.published()[:2], lost], curves=False).pairs
    caption = artists(tradeoff(pair, "params", "test_top1_error"), "caption")["caption"].get_text()
    assert caption == "2 finished runs, 200 epochs, 1 seed; not drawn: 1 without a configuration."


def test_a_teacher_from_another_network_is_a_line(tmp_path):
    runs = [samples.run("Conv", 3.8, taught=False, name="big"), samples.run("SepHashed_0.1", 5, network="DARTS", teacher_checkpoint="big", wrn_depth=None, wrn_width=None)]  # fmt: skip
    first, second = study(tmp_path, runs, curves=False).pairs
    figure = tradeoff(second, "params", "test_top1_error")
    assert len(artists(figure, "point-")) == 1 and artists(figure, "teacher-")["teacher-0"].get_ydata()[0] == 3.8
    assert artists(figure, "guide-")["guide-0"].get_text() == "teacher WRN-28-10" == first.groups[0].label


def test_the_preset_of_a_conv_is_no_setting_apart():
    """Nor are runs with the whole rate from before there was one those that have it now."""
    for conv, rate, apart in (
        ("Hashed_0.1", "shared", None),
        ("Hashed_0.1", None, 1.0),
        ("Tucker_0.5", "shared", None),
        ("OriginalACDC_23", None, 1.0),
        ("Sep", None, None),
        ("Sep", "auto", "auto"),
    ):
        assert setup({"conv": conv, "structured_lr": rate})["structured_lr"] == apart


def test_labels_tell_settings_apart(tmp_path):
    runs = [samples.run("ACDC", 5, name="a"), samples.run("ACDC_4", 6, name="b", lr=0.02, group="b", params=4e5), samples.run("ACDC", 8, name="d", nocrswd=True),
            samples.run("ACDC_8", 5.5, name="c", params=45e4), samples.run("ACDC_6", 6, name="e", teacher_checkpoint="another", params=3e5)]  # fmt: skip
    (pair,) = study(tmp_path, runs, curves=False).pairs
    labels = [group.label for group in pair.groups]
    assert labels == ["ACDC", "ACDC_4 (lr 0.02)", "ACDC (no CRS)", "ACDC_8", "ACDC_6 (by another)"]
    figure = tradeoff(pair, "params", "test_top1_error")
    (line,) = artists(figure, "family-").values()
    assert line.get_xdata().tolist() == [450_000, 500_000]  # the number of the conv alone is another
    corners = artists(figure, "front")["front"].get_xydata().tolist()  # whatever is drawn may be best for its cost
    assert all(each in corners for each in ([300_000, 6.0], [450_000, 5.5], [500_000, 5.0]))


def test_labels_leave_defaults_of_teaching_and_of_the_rate_out(tmp_path):
    """Also where more runs have another value."""
    given = ({"structured_lr": 0.2, "alpha": 0.9}, {"structured_lr": 0.2, "alpha": 0.9, "beta": 0.0}, {})
    runs = [
        samples.run("Sep", 5 + n, name=f"r{n}", group=f"r{n}", params=4e5 + n, **each) for n, each in enumerate(given)
    ]
    (pair,) = study(tmp_path, runs, curves=False).pairs
    assert [group.label for group in pair.groups] == [
        "Sep (α 0.9, structured_lr 0.2)", "Sep (α 0.9, β 0, structured_lr 0.2)", "Sep"]  # fmt: skip


def test_a_preset_of_gates_is_no_setting_of_others(tmp_path):
    """FBS clips gradients at a norm of 1, others not at all: no label says either, but one says another norm."""
    gated = [
        samples.run("Conv", 5 + number, name=f"g{number}", taught=False, gate="FBS_0.5", gate_weight=1e-8, gate_warmup=20, clip_grad=clip, family="Conv, FBS")
        for number, clip in enumerate((1.0, 1.0, 2.0))
    ]  # fmt: skip
    for number, run in enumerate(gated):
        run |= {"gate": f"FBS_0.{number + 2}", "group": f"g{number}"}
    others = [samples.run("Sep", 8, name="s", params=3e5, wrn_width=4.0), samples.run("ACDC", 9, name="a", params=4e5)]
    (pair,) = study(tmp_path, gated + others, curves=False).pairs
    labels = {group.label for group in pair.groups}
    assert not any("None" in label or "clip_grad 1" in label for label in labels), labels
    assert sum("clip_grad 2" in label for label in labels) == 1, labels


DATA = {"data_digest": "0123456789012345", "data_train": 1500, "data_test": 297}


def of(conv, error, params, tag, **fields):
    return samples.run(conv, error, params=params, name=f"{conv}.{tag}", group=f"{conv}.{tag}", **fields)


APART = {
    "length": ({"epochs": 3, "epochs_planned": 3}, {"epochs": 30, "epochs_planned": 30}, ["3 epochs", "30 epochs"]),
    "depth": ({"wrn_depth": 16}, {"wrn_depth": 10}, ["WRN-16-10", "WRN-10-10"]),
    "width": ({"wrn_width": 1.0}, {"wrn_width": 2.0}, ["WRN-28-1", "WRN-28-2"]),
    "part of the data": (DATA, {**DATA, "train_size": 500}, ["1,500 training images", "500 of 1,500 training images"]),
    "other data": (DATA, {**DATA, "data_digest": "1e10000000000000"}, ["data 01234567", "data 1e100000"]),
    "data unknown": (DATA, {}, ["1,500 training images", "images not counted"]),
    "held out": ({"val_size": 100}, {"val_size": 0}, ["100 held out", "none held out"]),
    "augmentation": ({"augment": "none"}, {"augment": "full"}, ["augment none", "augment full"]),
}


@pytest.mark.parametrize("fields", APART.values(), ids=APART)
def test_no_line_joins_other_networks_data_or_lengths(tmp_path, fields):
    one, other, words = fields
    runs = [
        of(conv, error, params, tag, **own)
        for conv, error, params in (("ACDC_4", 8, 4e5), ("ACDC_8", 6, 5e5), ("SepHashed_0.1", 5, 6e5))
        for tag, own in (("one", one), ("other", other))
    ]
    read = study(tmp_path, runs, count=4)
    assert len(read.pairs) == 2 and len({*plot.file_names(read).values()}) == 2
    for pair, word in zip(read.pairs, words):
        assert len(pair.groups) == 3 and word in pair.title
        assert word.replace(" ", "_").replace(",", "") in plot.file_names(read)[read.pairs.index(pair)]
        figure = tradeoff(pair, "params", read.measure)
        assert artists(figure, "where")["where"].get_text() == pair.title
        corners = artists(figure, "front")["front"].get_xydata()[1:-1].tolist()
        assert all([group.first["params"], group.error] in corners for group in pair.groups)
        assert artists(figure, "family-ACDC-taught")["family-ACDC-taught"].get_xdata().tolist() == [400_000, 500_000]
        assert len(artists(curves(pair, read.measure), "curve-")) == 3


def test_the_same_data_by_another_name_and_unknown_with_unknown(tmp_path):
    runs = [of("ACDC_4", 8, 4e5, "a", **DATA | {"dataset": "folder:a"}), of("ACDC_8", 7, 5e5, "b", **DATA | {"dataset": "folder:b"}),
            of("ACDC_4", 8, 4e5, "c"), of("ACDC_8", 7, 5e5, "d", val_size=0)]  # fmt: skip
    read = study(tmp_path, runs, curves=False)
    assert [[group.first["name"][-1] for group in pair.groups] for pair in read.pairs] == [["a", "b"], ["c", "d"]]
    caption = artists(tradeoff(read.pairs[0], "params", read.measure), "caption")["caption"].get_text()
    assert caption == "2 finished runs, 200 epochs, 1 seed; 1,500 training and 297 test images."


def test_convs_without_a_number_are_beside_those_with_one_but_not_where_they_are_pruned(tmp_path):
    """The width of `Sep` is all that could meet a budget, but that of `Sep, TopK` is not."""
    pruned = samples.run("Sep", 6, wrn_width=4.0, family="Sep, TopK", prune="TopK_0.05", group="pruned")
    runs = [samples.run("ACDC_4", 5), samples.run("Sep", 7, wrn_width=3.0), pruned]
    pairs = study(tmp_path, runs, curves=False).pairs
    found = {pair.title: [group.label for group in pair.groups] for pair in pairs}
    assert [title.split(", ")[1] for title in found] == ["WRN-28-10", "WRN-28-4"]
    assert [len(labels) for labels in found.values()] == [2, 2]  # beside each of them is the one without a number


def test_a_caption_says_how_many_seeds_a_point_has(tmp_path):
    runs = [*samples.several("ACDC", 5, 3), *samples.several("Shuffle_4", 6, 2), samples.run("Sep", 7)]
    (pair,) = study(tmp_path, runs, curves=False).pairs
    text = artists(tradeoff(pair, "params", "test_top1_error"), "caption")["caption"].get_text()
    assert "6 finished runs in 3 groups, 200 epochs, 3 seeds at 1 point, 2 seeds at 1, 1 seed at 1: means" in text


def test_a_teacher_of_another_length_is_a_line_that_says_so(tmp_path, capsys):
    """And it has no figure of its own, which would show one point."""
    runs = [
        samples.run("Conv", 3.8, taught=False, name="the.teacher", epochs=60, epochs_planned=60),
        samples.run("ACDC", 5),
    ]
    read = study(tmp_path, runs, curves=False)
    assert [pair.title for pair in read.pairs] == ["cifar10, WRN-28-10, 60 epochs", "cifar10, WRN-28-10, 200 epochs"]
    guide = artists(tradeoff(read.pairs[1], "params", read.measure), "guide-")
    assert [text.get_text() for text in guide.values()] == ["teacher WRN-28-10, 60 epochs"]
    assert [pair.is_shown_elsewhere for pair in read.pairs] == [True, False]
    assert {pair.title for pair, _, _ in plot.figures(read, "exact")} == {read.pairs[1].title}
    assert plot.main([str(read.path), "--out", str(tmp_path / "out"), "--html", str(tmp_path / "page.html")]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "60 epochs" in line]
    assert line == f"no {plot.file_names(read)[0]} for {read.pairs[0].title}: {plot.ONE_TEACHER}"
    shown = data(read)
    assert [*shown["groups"]] == [1] and [run.get("group") for run in shown["runs"]] == [None, 1]
    assert shown["runs"][0]["mean"] == 3.8
    for more in ([], [samples.run("Sep", 6, epochs=60, epochs_planned=60)]):  # no student has finished; it is not alone
        finished = [*runs[: 2 if more else 1], *more]
        kept = study(tmp_path / f"kept{len(more)}", finished, curves=False).pairs
        assert not any(pair.is_shown_elsewhere for pair in kept)
    others = study(
        tmp_path / "b", [runs[0] | {"data_test_digest": "a"}, runs[1] | {"data_test_digest": "b"}], curves=False
    )
    assert not others.pairs[1].guides  # an error on other images
