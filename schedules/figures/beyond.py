"""Draw what lies beyond the axes, such as a teacher that costs far more than its students, as an arrow at the edge.

    far, low = costly(pair, points), lower(pair)
    labels.append(arrow(axes, group, "params", 691_674.0, low=group.number in low))

An arrow is no mark: nobody can read a cost from where it stands, so its label has the error and the cost in figures.
The arrow has the gid of a group's mark, `point-<group>`.
"""

from matplotlib.axes import Axes
from matplotlib.transforms import blended_transform_factory

from schedules.figures.labels import Label
from schedules.figures.style import INK, MUTED, TINY, human
from schedules.outcomes import Group, Pair

FAR = 4.0  # a teacher or control that costs more than so many times the next group does not set the axis
FEW = 6  # groups up to which errors have room enough beside that of a teacher, however low it is
LENGTH = 20.0  # points


def costly(pair: Pair, points: dict[int, tuple[float, float]]) -> set[int]:
    """Return the numbers of the teachers and controls that would squeeze everything else into a part of the width.

    Args: points: cost and error by the number of the group.
    """
    found: set[int] = set()
    for role in ("control", "teacher"):  # controls beside the plain groups, teachers beside both
        among = ("", "control")[: 1 if role == "control" else 2]
        rest = [points[each.number][0] for each in pair.groups if each.role in among and each.number not in found]
        members = [each.number for each in pair.groups if each.role == role]
        found |= {number for number in members if rest and points[number][0] > FAR * max(rest)}
    return found


def lower(pair: Pair, far: set[int]) -> set[int]:
    """Return the numbers of the teachers beyond the axis of costs whose errors would leave a third of the height empty.

    A teacher without a point, of another figure, lies beyond that axis too.
    """
    own = {group.number for group in pair.groups}
    outside = [each for each in pair.guides if each.number in far or each.number not in own]
    errors = [each.error for each in pair.groups if each.number not in far and each not in outside]
    if len(errors) <= FEW:
        return set()
    room = min(errors) - 0.5 * (max(errors) - min(errors))
    return {each.number for each in outside if each.error < room}


def amount(cost: str, value: float) -> str:
    """Return a cost in words, such as `692k parameters`. Args: cost: one of `Group.cost`."""
    if cost == "active_fraction":
        return f"{100 * value:.3g} % of the weights"
    unit = {"params": "parameters", "active_parameters": "parameters that are not 0"}.get(cost, "mult-adds")
    return f"{human(value)} {'ms' if cost.startswith('latency') else unit}"


def words(group: Group, cost: str, value: float | None) -> str:
    """Return the label of an arrow: the group, its error with the deviation over seeds, and its cost if it is known."""
    std = f" ± {group.std:.2f}" if group.std else ""
    return f"{group.label}: {group.error:.2f}{std} %" + (f", {amount(cost, value)}" if value is not None else "")


def arrow(axes: Axes, group: Group, cost: str, value: float | None, low: bool) -> Label:
    """Draw a group's arrow at the right edge, level with its error, and return the label that belongs beside it.

    Args: value: its cost, None where it has no point in this figure; low: whether its error is below the axis, so that
        the arrow stands in the corner and points down too. The axes' limits must be final.
    """
    colour = INK if group.role == "teacher" else MUTED
    sideways = LENGTH if value is not None else 0.0
    tail = (-sideways - 3, LENGTH if sideways == 0 else 0.7 * LENGTH) if low else (-sideways, 0)
    if low and any((each.get_gid() or "").startswith("low-") for each in axes.texts):  # beside one that is there
        tail = (tail[0] - 8, tail[1])
    drawn = axes.annotate(
        "", (1, 0 if low else group.error), tail, xycoords=("axes fraction", "axes fraction" if low else "data"),
        textcoords="offset points", annotation_clip=False, fontsize=TINY, gid=f"low-{group.number}" if low else None,
        arrowprops=dict(arrowstyle="-|>", color=colour, linewidth=1.3, shrinkA=0, shrinkB=0, mutation_scale=9),
    )  # fmt: skip
    drawn.arrow_patch.set_gid(f"point-{group.number}" if value is not None else f"arrow-{group.number}")
    drawn.arrow_patch.set_zorder(5)
    across = axes.transAxes if low else blended_transform_factory(axes.transAxes, axes.transData)
    place = across.transform((1, 0 if low else group.error)) + [axes.figure.dpi / 72 * each for each in tail]
    at = axes.transData.inverted().transform(place)
    gid = group.number
    return Label(gid, words(group, cost, value), (float(at[0]), float(at[1])), colour, "bold")
