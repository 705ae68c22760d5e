"""Figures of studies: what is drawn, where, and in which look. The studies are made up."""

import itertools
import json
import random

import numpy as np
import pytest
import study_samples as samples
from drawn import artists, study
from matplotlib.backends.backend_agg import FigureCanvasAgg

from layers.registry import FAMILIES
from schedules import outcomes
from schedules.figures import style
from schedules.figures.ablation import ablation, rows
from schedules.figures.curves import curves
from schedules.figures.dimensions import dimensions, panels
from schedules.figures.labels import spread
from schedules.figures.tradeoff import front, tradeoff


@pytest.fixture(autouse=True)
def the_style():
    with style.drawing():
        yield


def dominated(points, index):
    cost, error = points[index]
    return any(x <= cost and y <= error and (x, y) != (cost, error) for x, y in points)


def test_the_front_is_what_nothing_dominates():
    draw = random.Random(0)
    for size in (1, 2, 3, 7, 30):
        for _ in range(50):
            points = [(draw.randint(1, 9), draw.randint(1, 9)) for _ in range(size)]
            best = front(points)
            assert sorted(best) == [index for index in range(size) if not dominated(points, index)]
            assert [points[index][0] for index in best] == sorted(points[index][0] for index in best)


@pytest.mark.parametrize(
    "value, text", [(950, "950"), (1e5, "100k"), (1e6, "1M"), (999_999, "1M"), (2.5e6, "2.5M"), (5.2433e9, "5.24G")]
)
def test_numbers_for_people(value, text):
    assert style.human(value) == text


def test_every_family_has_a_look_of_its_own():
    families = [*FAMILIES, *(f"{base}_x_{d}" for base in style.TURNED for d in (2, *range(4, 10)))]
    assert set(style.LOOKS) == set(FAMILIES)
    looks = {family: style.look(family) for family in families}
    assert len({str(looks[family].marker) for family in FAMILIES}) == len(FAMILIES)
    assert len({(look.colour, str(look.marker)) for look in looks.values()}) == len(families)
    assert len({look.colour for look in looks.values()} | {style.INK, style.MUTED, style.FAINT}) == len(families) + 3
    assert style.look("module mine.py") == style.look("module mine.py")
    found = {family: style.look(f"{family} allocated") for family in families}
    assert all(found[family].marker == looks[family].marker for family in families)
    assert not {look.colour for look in found.values()} & {look.colour for look in looks.values()}
    ways = {(base, way): style.look(f"{base}, {way}") for way in style.WAYS for base in ("Conv", "ACDC", "CP_x_4")}
    markers = {str(look.marker) for look in looks.values()}
    assert len(set(map(str, ways.values()))) == len(ways) and not markers & {str(look.marker) for look in ways.values()}


def test_spread_keeps_order_and_distance():
    draw = random.Random(1)
    for size in (1, 2, 5, 20):
        wanted = [draw.uniform(0, 30) for _ in range(size)]
        places = spread(wanted, 3)
        order = np.argsort(wanted)
        assert (np.diff(np.array(places)[order]) >= 3 - 1e-9).all()
    assert spread([0, 10, 30], 3) == [0, 10, 30] and spread([5, 5], 4) == [3, 7]


def overlap(one, other):
    return one.x0 < other.x1 and other.x0 < one.x1 and one.y0 < other.y1 and other.y0 < one.y1


@pytest.mark.parametrize(
    "runs, most_missing",
    [(samples.published(3), 4), (samples.published()[:9], 0), (samples.large(), 80)],
    ids=["30", "9", "81"],
)
def test_labels_overlap_nothing(tmp_path, runs, most_missing):
    (pair,) = study(tmp_path, runs, curves=False).pairs
    for cost in ("params", "mult_adds_exact")[: 1 if len(runs) > 80 else 2]:
        figure = tradeoff(pair, cost, "test_top1_error")
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw_without_rendering()
        labels = [super(type(label), label).get_window_extent(renderer) for label in artists(figure, "label-").values()]
        assert len(labels) >= max(1, len(pair.groups) - most_missing)
        for one, other in itertools.combinations(labels, 2):
            assert not overlap(one, other)
        points = artists(figure, "point-").values()
        centres = [
            each.axes.transData.transform(each.get_xydata()[0]) for each in points if hasattr(each, "get_xydata")
        ]
        arrows = [each.get_window_extent() for each in points if not hasattr(each, "get_xydata")]
        assert len(arrows) == sum(group.role == "teacher" for group in pair.groups)
        bounds = figure.axes[0].bbox
        for label in labels:
            assert not any(overlap(label, each) for each in arrows)
            assert not any(label.x0 < x < label.x1 and label.y0 < y < label.y1 for x, y in centres)
            assert bounds.x0 <= label.x0 and label.x1 <= bounds.x1 and bounds.y0 <= label.y0 and label.y1 <= bounds.y1


def test_what_is_drawn(tmp_path):
    (pair,) = study(tmp_path, samples.published(3), curves=False).pairs
    figure = tradeoff(pair, "params", "test_top1_error")
    points, (axes,) = artists(figure, "point-"), figure.axes
    assert len(points) == len(pair.groups) == 30 and axes.get_xscale() == "log"
    for group in pair.groups:
        point = points[f"point-{group.number}"]
        mean = np.mean([run["test_top1_error"] for run in group.runs])
        if group.role == "teacher":  # its cost would squeeze the others: an arrow to the edge, level with its error
            figure.draw_without_rendering()
            box, level = point.get_window_extent(), axes.transData.transform((1e6, mean))[1]
            assert axes.bbox.x1 - 3 < box.x1 < axes.bbox.x1 + 0.5 < box.x0 + 30 and (
                box.y0 + box.y1
            ) / 2 == pytest.approx(level)
            continue
        assert point.get_xydata().tolist() == [[group.first["params"], pytest.approx(mean)]]
        hollow = point.get_markerfacecolor() == style.HOLLOW
        assert hollow == (not group.taught) == (group.first["mode"] == "teacher")
        if not group.role:
            assert (
                point.get_color() == style.look(group.family).colour
                and point.get_marker() == style.look(group.family).marker
            )
        (_, low), (_, high) = artists(figure, f"error-{group.number}")[f"error-{group.number}"].get_xydata()
        assert high - low == pytest.approx(2 * np.std([run["test_top1_error"] for run in group.runs], ddof=1))
    teachers = [group for group in pair.groups if group.role == "teacher"]
    assert [group.label for group in teachers] == ["teacher WRN-28-10"] and len(teachers[0].runs) == 3
    assert artists(figure, "teacher-")[f"teacher-{teachers[0].number}"].get_ydata()[0] == teachers[0].error
    widths = [group for group in pair.groups if group.role == "control"]
    assert [group.label for group in widths] == ["WRN-28-1", "WRN-28-1.3", "WRN-28-3"]  # another network each
    shuffle = artists(figure, "family-Shuffle-taught")["family-Shuffle-taught"].get_xdata().tolist()
    assert shuffle == [378314, 437354, 563594, 823674]  # in order of cost, and without what had no CRS
    corners = artists(figure, "front")["front"].get_xydata().tolist()
    for number in front([(group.first["params"], group.error) for group in pair.groups]):
        assert [pair.groups[number].first["params"], pair.groups[number].error] in corners
    others = [group for group in pair.groups if group.role == "control" or group.first["nocrswd"] is True]
    for line in artists(figure, "family-").values():
        assert not any([group.first["params"], group.error] in line.get_xydata().tolist() for group in others)
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert {"500k", "1M", "4M"} <= set(ticks) and len(ticks) <= 8
    teacher = artists(figure, "label-")[f"label-{teachers[0].number}"].get_text()
    assert teacher == f"teacher WRN-28-10: {teachers[0].error:.2f} ± {teachers[0].std:.2f} %, 36.5M parameters"
    numbers = {artists(figure, f"label-{each.number}")[f"label-{each.number}"].get_text() for each in pair.groups
               if each.label.startswith("Shuffle") and f"label-{each.number}" in artists(figure, "label-")}  # fmt: skip
    assert numbers == {"Shuffle_4", "Shuffle_4, alone", "Shuffle_4 (no CRS)", "8", "16", "32"}  # a line is named once
    caption = artists(figure, "caption")["caption"].get_text()
    assert caption.startswith(
        "90 finished runs in 30 groups, 200 epochs, 3 seeds a point: means, bars of one standard deviation"
    ) and "1 diverged, 1 failed, 1 incomplete, 1 planned" in caption.replace("\n", " ")
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"Tucker, d = 4", "taught by a teacher", "trained alone", "Conv, other widths"} <= set(words)
    assert "Conv" not in words


def budgets(tmp_path):
    """Families that all cost the same by design, taught and alone, with errors close to one another."""
    convs = ["SepHashed_0.1", "TensorTrain_0.26", "ACDC"]
    runs = [
        run
        for place, conv in enumerate(convs)
        for taught in (True, False)
        for params in (500_000 + 40 * place, 1_000_000 + 40 * place)
        for run in samples.several(
            conv, 6 - 1e-6 * params + 0.02 * place, 2, taught=taught, params=params, group=f"{conv}{taught}{params}"
        )
    ]
    (pair,) = study(tmp_path, runs, curves=False).pairs
    return pair


def test_no_mark_hides_another_where_the_cost_is_the_same(tmp_path):
    pair = budgets(tmp_path)
    figure = tradeoff(pair, "params", "test_top1_error")
    figure.draw_without_rendering()
    drawn = {}
    for kind in ("point", "error"):
        lines = artists(figure, f"{kind}-")
        drawn[kind] = {number: lines[f"{kind}-{number}"] for number in range(len(pair.groups))}
    centres = {number: line.get_transform().transform(line.get_xydata()[0]) for number, line in drawn["point"].items()}
    for group in pair.groups:
        point, bar = (drawn[kind][group.number] for kind in ("point", "error"))
        assert point.get_xdata()[0] == group.first["params"]  # moved on the paper, not in what it says
        assert bar.get_transform().transform(bar.get_xydata())[0, 0] == pytest.approx(centres[group.number][0])
        assert point.get_markerfacecolor() == (style.look(group.family).colour if group.taught else style.HOLLOW)
    for one, other in itertools.combinations(pair.groups, 2):
        across, up = abs(centres[one.number] - centres[other.number]) * 72 / figure.dpi
        assert across > 5 or up > 5
    words = artists(figure, "caption")["caption"].get_text().replace("\n", " ")
    assert ("stand side by side" in words) == any(
        abs(centres[group.number][0] - figure.axes[0].transData.transform((group.first["params"], 1))[0]) > 1
        for group in pair.groups
    )


def test_labels_say_who_was_alone(tmp_path):
    runs = [
        samples.run(conv, error + 2 * (not taught), taught=taught, params=params, wrn_width=width, teacher_checkpoint="the.teacher" if taught else None)
        for conv, width, params, error in (("ACDC", 10.0, 600_000, 5), ("Conv", 1.3, 700_000, 7))
        for taught in (True, False)
    ] + [samples.run("Conv", 3.8, taught=False, name="the.teacher"), samples.run("Sep", 8, taught=False, params=800_000)]  # fmt: skip
    read = study(tmp_path, runs, count=3)
    (pair,) = read.pairs
    words = {text.get_text() for text in artists(tradeoff(pair, "params", read.measure), "label-").values()}
    assert words == {"ACDC", "ACDC, alone", "WRN-28-1.3", "WRN-28-1.3, alone", "teacher WRN-28-10", "Sep"}
    figure = curves(pair, read.measure)
    words = {text.get_text() for text in artists(figure, "label-").values()}
    assert words == {"ACDC", "ACDC, alone", "WRN-28-1.3", "WRN-28-1.3, alone", "teacher WRN-28-10", "Sep, alone"}
    for group in pair.groups:
        dashed = artists(figure, "curve-")[f"curve-{group.number}"].get_linestyle() == "--"
        assert dashed == (not group.taught and group.role != "teacher")
    caption = artists(figure, "caption")["caption"].get_text()
    assert "dashed: trained alone" in caption and "bars" not in caption and "grey" not in caption
    assert figure.axes[0].get_xlim() == (1, 3)


@pytest.mark.parametrize("tested", [(2, 5, 6), (6,)])
def test_epochs_that_were_not_tested(tmp_path, tested):
    """--test_every 3 or 7: a curve has the epochs that were tested, its training error has all, and both are seen whole."""
    path = samples.write(tmp_path / "study.csv", [samples.run("ACDC", 5), samples.run("Shuffle_4", 6)], count=7)
    document = json.loads(path.with_suffix(".json").read_text())
    for run in document["runs"]:
        run["rows"] = [
            {key: value for key, value in row.items() if row["epoch"] in tested or not key.startswith("test")}
            for row in run["rows"]
        ]
    path.with_suffix(".json").write_text(json.dumps(document))
    (pair,) = outcomes.read(str(path)).pairs
    figure = curves(pair, "test_top1_error")
    line, train = artists(figure, "curve-")["curve-0"], artists(figure, "train-")["train-0"]
    assert line.get_xdata().tolist() == [epoch + 1 for epoch in tested]
    assert train.get_xdata().tolist() == [1, 2, 3, 4, 5, 6, 7] and figure.axes[0].get_xlim() == (1, 7)
    if len(tested) == 1:
        (low, high), errors = figure.axes[0].get_ylim(), train.get_ydata()
        assert low <= min(errors) and max(errors) <= high and errors[0] > errors[-1]


def test_runs_of_one_epoch_are_marks(tmp_path):
    """They have no curve: the axis is that of their test errors, and the caption speaks of no line."""
    (pair,) = study(tmp_path, [samples.run("ACDC", 5), samples.run("Shuffle_4", 6)], count=1).pairs
    figure = curves(pair, "test_top1_error")
    errors = [line.get_ydata()[0] for line in artists(figure, "curve-").values()]
    low, high = figure.axes[0].get_ylim()
    assert high - low < 3 * (max(errors) - min(errors))
    assert "marks" not in artists(figure, "caption")["caption"].get_text()


def test_learning_curves_are_means(tmp_path):
    read = study(tmp_path, samples.published(2), count=5)
    (pair,) = read.pairs
    figure = curves(pair, read.measure)
    assert len(figure.axes) == len({group.family for group in pair.groups})
    lines = artists(figure, "curve-")
    assert len(lines) == len(artists(figure, "train-")) == len(pair.groups)
    group = pair.groups[3]
    wanted = np.mean([[row["test_top1_error"] for row in run["rows"]] for run in group.runs], axis=0)
    assert np.allclose(lines[f"curve-{group.number}"].get_xydata(), np.column_stack([range(1, 6), wanted]))
    for axes in figure.axes:
        heights = sorted(text.get_window_extent().y0 for text in axes.texts if "label-" in (text.get_gid() or ""))
        assert all(above - below > 7 for below, above in itertools.pairwise(heights))
    one = curves(outcomes.Pair(pair.dataset, pair.network, pair.runs, pair.groups[:8], []), read.measure)
    assert len(one.axes) == 1 and len(artists(one, "label-")) == 8
    assert curves(study(tmp_path / "without", samples.published(), curves=False).pairs[0], read.measure) is None


def test_pairs_of_weight_decay(tmp_path):
    runs = samples.published(2) + [samples.run("Shuffle_4", 4.5, crs_factor=0.5, params=823674)]
    (pair,) = study(tmp_path, runs, curves=False).pairs
    found = dict(rows(pair))
    assert list(found)[0] == "Shuffle_4" and list(found)[-1] == "SepHashedFull_0.1" and len(found) == 4
    assert list(found["Shuffle_4"]) == [0.0, 0.5, 1.0] and found["Shuffle_4"][0.5].error == 4.5
    for arms in found.values():
        assert {group.taught for group in arms.values()} == {True}
    figure = ablation(pair, "test_top1_error")
    assert len(artists(figure, "point-")) == 9 and len(artists(figure, "pair-")) == 4
    assert ablation(study(tmp_path / "none", samples.large(10), curves=False).pairs[0], "test_top1_error") is None


def test_a_heat_map_of_share_and_dimensions(tmp_path):
    """A panel a family, taught and alone apart; rows are d, columns shares; a cell without a result stays empty."""
    longer = dict(epochs=600, epochs_planned=600, data_train=50_000)  # said of the teacher, as its own figure says it
    runs = samples.several("Conv", 3.8, 2, taught=False, name="the.teacher", **longer) + [samples.run("CP_0.1", 50.0)]
    for taught in (True, False):
        for share, d in ((0.2, 2), (0.2, 4), (0.5, 2), (0.5, 3)):
            conv = f"Tucker_{share}" + f"_{d}" * (d != 3)
            runs += samples.several(conv, 10 * d + 10 * share + taught, 2, taught=taught, params=1000 * d)
    runs += [samples.run(f"TensorTrain_{share}_{d}", 9.0, prune="TopK_0.5", family=f"TensorTrain_x_{d}, TopK")
             for share in (0.2, 0.5) for d in (2, 4)]  # fmt: skip
    pair = study(tmp_path, runs).pairs[-1]
    assert [panel.title for panel in panels(pair)] == ["Tucker, taught", "Tucker, alone"]
    figure = dimensions(pair, "test_top1_error")
    axes = {each.get_gid(): each for each in figure.axes if each.get_gid()}
    assert [*axes] == ["panel-0", "panel-1"]
    for number, panel in enumerate(panels(pair)):
        of = axes[f"panel-{number}"]
        assert [each.get_text() for each in of.get_yticklabels()] == ["d = 2", "d = 3", "d = 4"]
        assert [each.get_text() for each in of.get_xticklabels()] == ["0.2", "0.5"]
        cells = {patch.get_gid(): patch.get_xy() for patch in of.patches}
        said = {text.get_gid(): text.get_text() for text in of.texts if text.get_gid()}
        groups = {group.number: group for group in panel.groups}
        assert len(cells) == 4 and (1, 2) not in cells.values() and (0, 1) not in cells.values()
        for gid, (column, row) in cells.items():
            group = groups[int(gid.removeprefix("point-"))]
            assert group.taught == (number == 0) and said[f"label-{group.number}"] == f"{group.error:.1f}"
            conv = f"Tucker_{(0.2, 0.5)[column]}" + ("_2", "", "_4")[row]
            assert group.first["conv"] == conv
    colours = [patch.get_facecolor() for _, patch in sorted((p.get_xy(), p) for p in axes["panel-0"].patches)]
    assert len({*colours}) == 4
    figure.draw_without_rendering()  # few cells are large, with the scale of colours beside them; all is in the figure
    assert {text.get_fontsize() for text in axes["panel-0"].texts if text.get_gid()} == {1.4 * style.TINY}
    for text in [*figure.texts, *itertools.chain.from_iterable(each.texts for each in figure.axes)]:
        box = text.get_window_extent()
        assert box.x0 > 0 < box.y0 and box.x1 < figure.bbox.x1 and box.y1 < figure.bbox.y1
    note = " ".join(artists(figure, "note")["note"].get_text().split())
    assert note.endswith("teacher WRN-28-10, 600 epochs, 50,000 training images: 3.74 %")
    assert dimensions(study(tmp_path, samples.published()).pairs[0], "test_top1_error") is None
