"""Figures of many groups at nearly one cost: numbered marks and the list of the numbers. And what labels have in common."""

import itertools

import numpy as np
import pytest
import study_samples as samples
from drawn import artists, study
from matplotlib.figure import Figure

from schedules.figures import numbered, style
from schedules.figures.labels import Label
from schedules.figures.labels import place as place_labels
from schedules.figures.naming import what_differs
from schedules.figures.tradeoff import tradeoff


@pytest.fixture(autouse=True)
def the_style():
    with style.drawing():
        yield


def crowd(tmp_path, images):
    """Twelve families at two costs, taught and alone, and a teacher far off."""
    of_all = {"data_test": images, "data_train": 5 * images} if images else {}
    runs = samples.several("Conv", 3.8, 3, taught=False, name="the.teacher", params=36_479_194, **of_all)
    for place in range(24):
        number = place // 12
        for taught in (True, False):
            error = 40 - 9 * number + 0.4 * (place % 12) + (not taught) * (place % 3)
            fields = dict(params=(27_000, 60_000)[number] + 20 * place, group=f"{place}{taught}", **of_all)
            conv = ("TensorTrain", "Tucker", "CP")[place % 3] + f"_{(1 + number) / 10}_{2 + place % 12 // 3}"
            runs += samples.several(conv, error, 3, 0.05, taught=taught, **fields)
    (pair,) = study(tmp_path, runs, curves=False).pairs
    return pair


def test_marks_of_a_crowd_are_numbered_and_listed_in_order_of_error(tmp_path):
    pair = crowd(tmp_path, 10_000)
    figure = tradeoff(pair, "params", "test_top1_error")
    figure.draw_without_rendering()
    (axes,), points, labels = figure.axes, artists(figure, "point-"), artists(figure, "label-")
    assert len(points) == len(pair.groups) == 49
    plain = [group for group in pair.groups if not group.role]
    lines = [points[f"point-{group.number}"] for group in plain]
    centres = [line.get_transform().transform(line.get_xydata()[0]) for line in lines]
    for one, other in itertools.combinations(np.array(centres) * 72 / figure.dpi, 2):
        assert np.hypot(*(one - other)) > 2 * numbered.RADIUS - 0.01
    said = {group.number: labels[f"label-{group.number}"].get_text() for group in plain}
    found = numbered.sections(plain, "params")
    assert [section.title for section in found] == ["about 27.1k parameters", "about 60.4k parameters"]
    rows_ = [row for section in found for row in section.rows]
    assert [row.number for row in rows_] == [*range(1, 25)]
    for section in found:
        assert [row.taught.error for row in section.rows] == sorted(row.taught.error for row in section.rows)
    for row in rows_:
        assert row.taught.label == row.alone.label and said[row.taught.number] == said[row.alone.number] == str(
            row.number
        )
    words = [text.get_text() for text in figure.texts]
    assert all(f"{each.error:.1f} ±{each.std:.1f}" in words for each in plain)
    clear = {text.get_text() for text in figure.texts if text.get_fontweight() == "bold" and text.get_text()[0] in "+−"}
    assert clear and all(float(each) > 1.2 for each in clear)  # of 10,000 images and three seeds
    teacher = next(group for group in pair.groups if group.role)
    assert labels[f"label-{teacher.number}"].get_text().endswith("%, 36.5M parameters")
    assert axes.get_ylim()[0] > 25 and not artists(figure, "teacher-")  # 3.8 % would leave most of the height empty
    box = points[f"point-{teacher.number}"].get_window_extent()
    assert abs(box.x1 - axes.bbox.x1) < 2 and abs(box.y0 - axes.bbox.y0) < 2
    caption = artists(figure, "caption")["caption"].get_text().replace("\n", " ")
    assert "± one standard deviation; 50,000 training and 10,000 test images" in caption and "grey where" in caption
    unknown = tradeoff(crowd(tmp_path / "unknown", None), "params", "test_top1_error")
    assert "grey where" not in artists(unknown, "caption")["caption"].get_text().replace("\n", " ")


def test_a_list_has_no_more_sections_than_it_has_room_for(tmp_path):
    """Of 36 costs with three settings each, not even those would fit: the best of all are listed instead."""
    runs = [
        samples.run(f"TensorTrain_{0.01 * (1 + place):g}_{2 + way}", 9 + 0.1 * way + 0.01 * place, group=f"{place}{way}",
                    params=int(2e4 * 1.2**place))
        for place in range(36) for way in range(3)
    ]  # fmt: skip
    (pair,) = study(tmp_path, runs, curves=False).pairs
    (section,) = numbered.sections(pair.groups, "params")
    assert section.title == f"the best {len(section.rows)} of 108" and len(section.rows) > 90
    assert max(map(len, numbered._columns([section]))) <= numbered.LINES


def test_settings_whose_cost_few_share_are_listed_last(tmp_path):
    """Two of a third cost don't make one list of all; as many as a third of the settings do."""
    runs = [
        samples.run(f"TensorTrain_{(1 + cost) / 10}_{2 + way}", 30 - cost + way, group=f"{cost}{way}", params=params + way)
        for cost, (params, ways) in enumerate([(27_000, 5), (60_000, 4), (94_000, 2), (200_000, 1)]) for way in range(ways)
    ]  # fmt: skip
    (pair,) = study(tmp_path, runs[:11], curves=False).pairs
    found = numbered.sections(pair.groups, "params")
    titles = ["about 27k parameters", "about 60k parameters"]
    assert [section.title for section in found] == [*titles, "others"]
    assert [row.number for section in found for row in section.rows] == [*range(1, 12)]
    assert [row.first.cost["params"] for row in found[-1].rows] == [94_000, 94_001]
    (pair,) = study(tmp_path / "more", runs[:3] + runs[5:], curves=False).pairs
    (section,) = numbered.sections(pair.groups, "params")
    assert not section.title and len(section.rows) == 10


@pytest.mark.parametrize("ways", [[False], [True, False]], ids=["alone", "both"])
def test_a_list_has_the_width_of_a_network_whole(tmp_path, ways):
    """It is all that tells two networks of one conv apart, so it is never cut, and costs stand clear of it."""
    size = dict(wrn_depth=16, wrn_width=1.84, params=60_583)
    runs = [samples.run("ACDC_4", 26, wrn_depth=16)]
    runs += [samples.run("SepHashedDecimate", 25, taught=taught, **size) for taught in ways]
    (pair,) = study(tmp_path, runs, curves=False).pairs
    found = numbered.sections(pair.groups, "params")
    figure, _, right = numbered.canvas(found)
    numbered.table(figure, found, "params", right)
    figure.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in figure.texts}
    assert boxes["SepHashedDecimate (WRN-16-1.84)"].x1 < boxes["60.6k"].x0


def test_a_line_whose_end_has_no_room_for_its_name_has_it_at_another_point():
    """The first label with room for the name carries it, and the end its number; with room for none, numbers are left."""

    def placed(*narrow):
        axes = Figure((4, 3)).add_axes((0, 0, 1, 1), xlim=(0, 40), ylim=(0, 30))
        texts = {0: ("0.01", "SepHashed_0.01"), 1: ("0.1", "SepHashed_0.1"), 2: ("0.5", "SepHashed_0.5")}
        labels = [
            Label(number, name if number == 2 else short, (8 + 12 * number, 15), style.INK, line=2, name=name, short=short)
            for number, (short, name) in texts.items()
        ]  # fmt: skip
        centres = [axes.transData.transform(labels[number].at) for number in narrow]
        walls = [(x + left, 0, x + right, 300) for x, _ in centres for left, right in ((-45, -28), (28, 45))]
        return [each.get_text() for each in place_labels(axes, labels, np.array(walls), [])]

    assert placed() == placed(0, 1) == ["0.01", "0.1", "SepHashed_0.5"]
    assert placed(2) == ["SepHashed_0.01", "0.1", "0.5"] and placed(0, 2) == ["0.01", "SepHashed_0.1", "0.5"]
    assert placed(0, 1, 2) == ["0.01", "0.1"]


def test_a_gain_of_nothing_has_no_sign():
    assert [numbered.signed(each) for each in (-0.04, 0.04, 0.0, -0.06, 1.25)] == ["0.0", "0.0", "0.0", "−0.1", "+1.2"]


@pytest.mark.parametrize(
    "labels, found",
    [
        (["Shuffle_16", "Shuffle_1"], ["16", "1"]),
        (["TensorTrain_0.26_4", "TensorTrain_0.2_4"], ["0.26", "0.2"]),
        (["TopK_0.05 (no CRS)", "TopK_0.15 (no CRS)"], ["0.05", "0.15"]),
        (["ACDC", "ACDC_8"], ["ACDC", "ACDC_8"]),
    ],
)
def test_what_differs_between_labels(labels, found):
    assert what_differs(labels) == found
