"""Set each run of a collation beside its teacher: its share of the teacher's parameters, and the gap of their errors.

    add_teachers(rows, elsewhere)                # after grouping.add_groups; elsewhere: teachers that are no row
    rows[3]["percent_of_teacher_params"], rows[3]["gap_to_teacher"], rows[3]["gap_to_teacher_verdict"]

A network that was trained alone has no teacher; its share is that of the same network taught, if that has one teacher.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import mean, stdev

from schedules.comparable import Run, alike, but_for_teaching, images, tested_on
from schedules.difference import Result, verdict
from schedules.grouping import one_of_each_seed, several_versions


def add_teachers(rows: Sequence[Run], by_name: Mapping[str, Run]) -> None:
    """Add to each row the columns of this module; None where they are not known. The gap is the same in a whole group.

    Args: rows: with their groups; by_name: these rows and those of teachers that are not among them, by their names.
    """
    stand_ins = _teachers_of_the_same(rows, by_name)
    groups: dict[str, list[Run]] = {}
    for row in rows:
        teacher = _teacher(row, by_name) if row["taught"] else stand_ins.get(_same(row))
        row["percent_of_teacher_params"] = _percent(row, teacher)
        groups.setdefault(row["group"], []).append(row)
    retrained = {name for name, _ in several_versions([*by_name.values()])}
    for members in groups.values():
        pair = _results(members, by_name, retrained)
        gap = {
            "gap_to_teacher": pair[0].error - pair[1].error if pair else None,
            "gap_to_teacher_verdict": verdict(*pair) if pair else None,
        }
        for row in members:
            row.update(gap)


def _teacher(row: Run, by_name: Mapping[str, Run]) -> Run | None:
    return by_name.get(row.get("teacher_checkpoint")) if row["taught"] else None


def _same(row: Run) -> tuple | None:
    """Return a key that is equal for a network taught and alone; None where its configuration is not known."""
    return but_for_teaching(row) if row.get("dataset") and row.get("network") else None


def _teachers_of_the_same(rows: Iterable[Run], by_name: Mapping[str, Run]) -> dict[tuple, Run]:
    """Return for each network that was taught by one teacher, of any seeds, a row of that teacher."""
    found: dict[tuple, dict[str, Run]] = {}
    unknown = set()
    for row in rows:
        if row["taught"] and (key := _same(row)) is not None:
            teacher = _teacher(row, by_name)
            if teacher is None:
                unknown.add(key)
            else:
                found.setdefault(key, {}).setdefault(teacher["group"], teacher)
    return {key: next(iter(of.values())) for key, of in found.items() if len(of) == 1 and key not in unknown}


def _percent(row: Run, teacher: Run | None) -> float | None:
    own, whole = row.get("params"), teacher.get("params") if teacher else None
    return 100 * own / whole if own and whole else None


def _results(
    members: Sequence[Run], by_name: Mapping[str, Run], retrained: Collection[str]
) -> tuple[Result, Result] | None:
    """Return the result of a group and that of the teachers that taught its finished runs; None where one is not known.

    It is not known of a teacher that is not finished, that was tested on other images, or of which the runs know several
    versions, since its record is of one of them.
    """
    first = members[0]
    error = first["mean_test_top1_error"]
    finished = one_of_each_seed(
        row for row in members if row["state"] == "finished" and row.get("test_top1_error") is not None
    )
    if not first["taught"] or error is None or not finished:
        return None
    names = dict.fromkeys(row.get("teacher_checkpoint") for row in finished)
    teachers = [by_name.get(name) for name in names]
    if not all(teacher and _is_usable(teacher, first) for teacher in teachers) or retrained & names.keys():
        return None
    teachers = one_of_each_seed(teachers)
    errors = [teacher["test_top1_error"] for teacher in teachers]
    deviation = stdev(errors) if len(errors) > 1 else None
    student = Result(error, images(first)[1], first["seeds"], first["std_test_top1_error"])
    return student, Result(mean(errors), images(teachers[0])[1], len(errors), deviation)


def _is_usable(teacher: Run, student: Run) -> bool:
    if teacher["state"] != "finished" or teacher.get("test_top1_error") is None or not teacher.get("dataset"):
        return False
    return alike(tested_on(teacher), tested_on(student))
