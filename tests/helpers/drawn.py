"""Artists of figures that tests look at, and studies to draw.

figure = tradeoff(study(tmp_path, samples.published()).pairs[0], "params", "test_top1_error")
artists(figure, "point-")["point-0"]
"""

import study_samples as samples

from schedules import outcomes


def study(tmp_path, runs, **keywords):
    return outcomes.read(str(samples.write(tmp_path / "study.csv", runs, **keywords)))


def artists(figure, prefix):
    """Lines, texts and arrows by gid."""
    found = [each for axes in figure.axes for each in (*axes.lines, *axes.texts)] + figure.texts
    found += [each.arrow_patch for each in found if getattr(each, "arrow_patch", None)]
    return {each.get_gid(): each for each in found if (each.get_gid() or "").startswith(prefix)}
