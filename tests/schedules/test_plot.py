"""Figures of studies: what is drawn, where, in which look; and what is refused. The studies are made up."""

import itertools
import json
import random
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import study_samples as samples
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from cli import command as cli_command
from layers.registry import FAMILIES
from schedules import outcomes, plot
from schedules.figures import style
from schedules.figures.ablation import ablation, rows
from schedules.figures.curves import curves
from schedules.figures.labels import spread
from schedules.figures.output import rendered
from schedules.figures.tradeoff import front, tradeoff
from schedules.page import TEMPLATE, data, inline, is_page, page
from system import files as system_files


@pytest.fixture(autouse=True)
def the_style():
    with style.drawing():
        yield


def study(tmp_path, runs, **keywords):
    return outcomes.read(str(samples.write(tmp_path / "study.csv", runs, **keywords)))


def artists(figure, prefix):
    """Lines and texts by gid."""
    found = [each for axes in figure.axes for each in (*axes.lines, *axes.texts)] + figure.texts
    return {each.get_gid(): each for each in found if (each.get_gid() or "").startswith(prefix)}


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
    families = [*FAMILIES, *(f"{base}_x_{d}" for base in style.TURNED for d in (2, 4, 5, 6))]
    assert set(style.LOOKS) == set(FAMILIES)
    looks = {family: style.look(family) for family in families}
    assert len({str(looks[family].marker) for family in FAMILIES}) == len(FAMILIES)
    assert len({(look.colour, str(look.marker)) for look in looks.values()}) == len(families)
    assert len({look.colour for look in looks.values()} | {style.INK, style.MUTED, style.FAINT}) == len(families) + 3
    assert style.look("module mine.py") == style.look("module mine.py")


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
        centres = [line.axes.transData.transform(line.get_xydata()[0]) for line in artists(figure, "point-").values()]
        bounds = figure.axes[0].bbox
        for label in labels:
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
        cost = axes.get_xlim()[1] if group.role == "teacher" else group.first["params"]  # it would squeeze the others
        assert point.get_xydata().tolist() == [[cost, pytest.approx(mean)]]
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
    equal = [group for group in pair.groups if group.role != "control" and group.first["nocrswd"] is not True]
    for number in front([(group.first["params"], group.error) for group in equal]):
        assert [equal[number].first["params"], equal[number].error] in corners
    for group in pair.groups:
        if group not in equal:
            assert not any([group.first["params"], group.error] in line.get_xydata().tolist()
                           for line in axes.lines if len(line.get_xdata()) > 2)  # fmt: skip
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert {"500k", "1M", "4M"} <= set(ticks) and len(ticks) <= 8
    teacher = artists(figure, "label-")[f"label-{teachers[0].number}"].get_text()
    assert teacher == "teacher WRN-28-10, 36.5M \N{RIGHTWARDS ARROW}"
    caption = artists(figure, "caption")["caption"].get_text()
    assert caption.startswith(
        "90 finished runs in 30 groups, 200 epochs, 3 seeds a point: means, bars of one standard deviation"
    ) and "1 diverged, 1 failed, 1 incomplete, 1 planned" in caption.replace("\n", " ")
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"Tucker, d = 4", "taught by a teacher", "trained alone", "Conv, other widths"} <= set(words)
    assert "Conv" not in words


def budgets(tmp_path):
    """Families that all cost the same by design, taught and alone, with errors close to one another."""
    convs = ["SepHashed_0.1", "TensorTrain_0.26", "Tucker_0.25", "ACDC"]
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
        abs(centres[group.number][0] - figure.axes[0].transData.transform((group.first["params"], 1))[0]) > 9
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


def test_runs_without_a_configuration_are_told_of(tmp_path):
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


def test_labels_tell_settings_apart(tmp_path):
    runs = [samples.run("ACDC", 5, name="a"), samples.run("ACDC_4", 6, name="b", lr=0.02, group="b", params=4e5), samples.run("ACDC", 8, name="d", nocrswd=True),
            samples.run("ACDC_8", 5.5, name="c", params=45e4), samples.run("ACDC_6", 6, name="e", teacher_checkpoint="another", params=3e5)]  # fmt: skip
    (pair,) = study(tmp_path, runs, curves=False).pairs
    labels = [group.label for group in pair.groups]
    assert labels == ["ACDC", "ACDC_4 (lr 0.02)", "ACDC (no CRS)", "ACDC_8", "ACDC_6 (by another)"]
    figure = tradeoff(pair, "params", "test_top1_error")
    (line,) = artists(figure, "family-").values()
    assert line.get_xdata().tolist() == [450_000, 500_000]  # the number of the conv alone is another
    assert "no line joins other widths or settings" in artists(figure, "caption")["caption"].get_text()


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


def test_a_caption_says_how_many_seeds_a_point_has(tmp_path):
    runs = [*samples.several("ACDC", 5, 3), *samples.several("Shuffle_4", 6, 2), samples.run("Sep", 7)]
    (pair,) = study(tmp_path, runs, curves=False).pairs
    text = artists(tradeoff(pair, "params", "test_top1_error"), "caption")["caption"].get_text()
    assert "6 finished runs in 3 groups, 200 epochs, 3 seeds at 1 point, 2 seeds at 1, 1 seed at 1: means" in text


def test_a_teacher_of_another_length_is_a_line_that_says_so(tmp_path):
    runs = [
        samples.run("Conv", 3.8, taught=False, name="the.teacher", epochs=60, epochs_planned=60),
        samples.run("ACDC", 5),
    ]
    read = study(tmp_path, runs, curves=False)
    assert [pair.title for pair in read.pairs] == ["cifar10, WRN-28-10, 60 epochs", "cifar10, WRN-28-10, 200 epochs"]
    guide = artists(tradeoff(read.pairs[1], "params", read.measure), "guide-")
    assert [text.get_text() for text in guide.values()] == ["teacher WRN-28-10, 60 epochs"]
    others = study(
        tmp_path / "b", [runs[0] | {"data_test_digest": "a"}, runs[1] | {"data_test_digest": "b"}], curves=False
    )
    assert not others.pairs[1].guides  # an error on other images


def test_epochs_that_were_not_tested(tmp_path):
    """--test_every 3: a curve has the epochs that were tested, its training error has all."""
    path = samples.write(tmp_path / "study.csv", [samples.run("ACDC", 5), samples.run("Shuffle_4", 6)], count=7)
    document = json.loads(path.with_suffix(".json").read_text())
    for run in document["runs"]:
        run["rows"] = [
            {key: value for key, value in row.items() if row["epoch"] in (2, 5, 6) or not key.startswith("test")}
            for row in run["rows"]
        ]
    path.with_suffix(".json").write_text(json.dumps(document))
    (pair,) = outcomes.read(str(path)).pairs
    figure = curves(pair, "test_top1_error")
    assert artists(figure, "curve-")["curve-0"].get_xdata().tolist() == [3, 6, 7]
    assert artists(figure, "train-")["train-0"].get_xdata().tolist() == [1, 2, 3, 4, 5, 6, 7]


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


def command(*arguments):
    return cli_command.run(lambda: plot.main([*map(str, arguments)]))


def test_files_of_two_networks_and_a_page(tmp_path, capsys):
    other = samples.run("Sep", 2.9, taught=False, network="DARTS", wrn_depth=None, wrn_width=None)
    path = samples.write(tmp_path / "study.csv", [*samples.published()[:3], other], count=3)
    assert command(path, "--out", tmp_path / "new" / "figures", "--html", tmp_path / "page.html") == 0
    said = capsys.readouterr().out.splitlines()
    written = {line for line in said if not line.startswith("no ")}
    names = {
        f"study.cifar10.{network}.{kind}.{end}"
        for network in ("WideResNet", "DARTS")
        for kind in ("params", "mult_adds", "curves")
        for end in ("png", "svg")
    }
    assert written == {str(tmp_path / "new" / "figures" / name) for name in names} | {str(tmp_path / "page.html")}
    assert sum("--nocrswd" in line for line in said) == 2
    for name in names:
        if name.endswith("png"):
            with Image.open(tmp_path / "new" / "figures" / name) as image:
                assert round(image.info["dpi"][0]) == 200
        else:
            svg = ElementTree.parse(tmp_path / "new" / "figures" / name)
            assert len({each.get("id") for each in svg.iter()} & {"point-0", "point-3", "curve-0", "curve-3"}) == 1
    again = tradeoff(outcomes.read(str(path)).pairs[1], "params", "test_top1_error")
    assert rendered(again, "svg") == (tmp_path / "new/figures/study.cifar10.DARTS.params.svg").read_bytes()


NASTY = '</script><script>alert("x")</script>&amp;$\\frac{1}{2}$ \x01 日本'


def test_odd_names_and_empty_fields(tmp_path, capsys):
    runs = [
        samples.run("Conv", 5.0, name=NASTY, module=NASTY, family=f"module {NASTY}", group="") | {"conv": None},
        samples.run("CP_0.1", 5.0, test_top1_error=None, name="finished but empty"),
        samples.run("CP_0.2", float("nan"), name="not a number"),
        samples.run("CP_0.3", 0.0, name="perfect", test_top5_error=None),
        samples.run("CP_0.4", 5.0, name="free", params=None),
        samples.run("CP_0.5", 0, state="failed", name="lost", reason=NASTY),
    ]
    path = samples.write(tmp_path / "st udy$.csv", runs, count=2, conflicts=[NASTY])
    assert command(path, "--html", tmp_path / "page.html") == 0
    (pair,) = outcomes.read(str(path)).pairs
    assert [group.first["conv"] for group in pair.groups] == [None, "CP_0.3"]
    assert pair.undrawn == {"without result": 3, "failed": 1}
    text = (tmp_path / "page.html").read_text()
    for pattern in ("<script>alert", "</script><script>alert"):
        assert pattern not in text
    assert text.count("</script>") == 2
    assert {url for url in re.findall(r"https?://[^\"' >]+", text)} <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    inside = re.search(r'id="study">(.*?)</script>', text)[1]
    known = json.loads(inside)
    assert not set("<>&") & set(inside)
    assert known["runs"][0]["name"] == NASTY.replace("\x01", "\N{REPLACEMENT CHARACTER}") and len(known["runs"]) == 6
    assert {key: len(group["curve"]) for key, group in known["groups"].items()} == {"0": 2, "1": 2}


def test_a_page_is_small(tmp_path):
    read = study(tmp_path, samples.published(1)[:26] + samples.large(13))
    files = [(0, kind, rendered(figure, "svg").decode()) for _, kind, figure in plot.figures(read, "exact") if figure]
    assert len(read.runs) >= 39
    text = page(read, files)
    assert len(text.encode()) < 1_000_000
    assert set(re.findall(r'class="point" data-group="(\d+)"', text)) == {
        str(number) for number in data(read)["groups"]
    }
    assert "{{" not in text


def test_svg_ids_are_its_own():
    colours = {}
    svg = '<svg width="1pt" height="2pt" viewBox=""><g id="point-3"><use href="#m1" style="fill: #0077bb"/></g><path id="m1" clip-path="url(#p)" style="fill: #222222"/></svg>'
    inlined = inline(svg, "f1-", "t", colours)
    assert (
        'class="point" data-group="3"' in inlined
        and 'href="#f1-m1"' in inlined
        and 'id="f1-m1"' in inlined
        and "url(#f1-p)" in inlined
    )
    assert colours == {"--c0077bb": "#0077bb"} and "var(--c0077bb)" in inlined and "var(--ink)" in inlined


@pytest.mark.parametrize(
    "contents, says",
    [
        (None, "study.csv cannot be read: No such file"),
        (b"", "it has no column name, state"),
        (b"name,state\na,finished\n", "it has no column family, taught, group"),
        (b"\xff\xfe\x00", "is no table of schedules.collate"),
        ([], "it has no column"),
        ([samples.run("ACDC", 1, state="failed"), samples.run("ACDC", 1, 1, state="running")], "no finished run with a test_top1_error to draw (1 failed, 1 running)"),
    ],
    ids=["missing", "empty", "other", "binary", "no rows", "none finished"],
)  # fmt: skip
def test_refusals(tmp_path, capsys, contents, says):
    path = tmp_path / "study.csv"
    if isinstance(contents, list):
        samples.write(path, contents)
    elif contents is not None:
        path.write_bytes(contents)
    before = sorted(tmp_path.iterdir())
    assert command(path, "--out", tmp_path / "out", "--html", tmp_path / "page.html") == 2
    out, err = capsys.readouterr()
    assert says in err and len(err.splitlines()) == 1 and not out and sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("target", ["study.csv", "study.json", "schedule.json", "empty", "folder", "template.html"])
def test_a_page_replaces_nothing_but_a_page(tmp_path, capsys, target):
    path = samples.write(tmp_path / "study.csv", samples.published()[:2], count=1)
    (tmp_path / "folder").mkdir()
    (tmp_path / "schedule.json").write_text("{}")
    (tmp_path / "empty").touch()
    (tmp_path / "template.html").write_bytes(TEMPLATE.read_bytes())
    before = {each: each.read_bytes() for each in tmp_path.iterdir() if each.is_file()}
    assert command(path, "--out", tmp_path / "out", "--html", tmp_path / target) == 2
    out, err = capsys.readouterr()
    assert "exists and is no earlier page" in err and len(err.splitlines()) == 1 and not out
    assert {each: each.read_bytes() for each in tmp_path.iterdir() if each.is_file()} == before
    assert not (tmp_path / "out").exists()


def test_a_page_may_be_made_anew(tmp_path):
    html = tmp_path / "new.html"
    html.write_text(page(study(tmp_path, samples.published()[:1], curves=False), []))
    system_files.keep("--html", str(html), "page", is_page)
    system_files.keep("--html", str(tmp_path / "none.html"), "page", is_page)


def test_damaged_json_and_wrong_flags(tmp_path, capsys):
    path = samples.write(tmp_path / "study.csv", samples.published()[:2], count=1)
    path.with_suffix(".json").write_text('{"runs": [{"rows": 3}]}')
    assert command(path) == 2 and "study.json is no study of schedules.collate" in capsys.readouterr().err
    path.with_suffix(".json").unlink()
    assert command(path, "--mult_adds", "exakt") == 2 and "did you mean 'exact'?" in capsys.readouterr().err
    assert (
        command(path, "--error", "val_top1_error") == 2
        and "no finished run with a val_top1_error" in capsys.readouterr().err
    )
    (tmp_path / "file").touch()
    assert command(path, "--out", tmp_path / "file") == 2 and "cannot be made" in capsys.readouterr().err
    assert (
        command(path, "--html", tmp_path / "file" / "page.html") == 2
        and "--html: the folder" in capsys.readouterr().err
    )
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "study.csv"]
