"""Groups of runs that differ in their seed alone, with means and standard deviations over the group.

add_groups(rows)                                       # rows as rows.py makes them
rows[0]["group"], rows[0]["seeds"], rows[0]["mean_test_top1_error"], rows[0]["std_test_top1_error"]
"""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from statistics import mean, stdev

from record.identity import NOT_IDENTITY, asked, dataset_key
from record.reader import is_latency
from schedules.rows import LEADING, METRICS

# What the runs of one group may differ in.
NOT_OF_GROUP = {
    *NOT_IDENTITY,
    "seed",
    "teacher_checkpoint",
    "student_checkpoint",
    "teacher_digest",
    "init_digest",
    "init_from",
    "widths",
    "shrunk_from",
    "shrunk_digest",
}
GENERATIONS = 9  # of teachers of teachers that are compared; longer chains end in a name


def add_groups(rows: Sequence[dict], others: Iterable[dict] = ()) -> None:
    """Add to each row its group, and the means and deviations of the group.

    A group holds the runs that differ in their seed, or in that of their teachers, alone. It is called as its first
    run. `others` are rows of other studies, which may hold the teachers. A deviation is None of fewer than two seeds. `seeds`
    are those that were tested, or where none was, those that finished.
    """
    by_name = {each["name"]: each for each in (*others, *rows)}
    apart = dict(several_versions(rows))
    groups: dict[str, list[dict]] = {}
    for each in rows:
        groups.setdefault(_key(each, by_name, apart), []).append(each)
    for members in groups.values():
        finished = one_of_each_seed(each for each in members if each["state"] == "finished")
        tested = [each for each in finished if each["test_top1_error"] is not None]
        shared = {"group": members[0]["name"], "seeds": len(tested or finished)}
        for metric in METRICS:
            values = [each[metric] for each in finished if each[metric] is not None]
            shared[f"mean_{metric}"] = mean(values) if values else None
            shared[f"std_{metric}"] = stdev(values) if len(values) > 1 else None
        for each in members:
            each.update(shared)


def one_of_each_seed(runs: Iterable[dict]) -> list[dict]:
    """Return one run of each seed, teachers' seeds included: a repetition says nothing about chance."""
    kept: dict[tuple, dict] = {}
    for each in runs:
        kept.setdefault((each.get("seed"), each.get("teacher_digest"), each.get("init_digest")), each)
    return list(kept.values())


def several_versions(rows: Sequence[dict]) -> Iterator[tuple[str, int]]:
    """Yield each run that other runs came from in several versions, and the number of versions.

    There are several where two machines trained it, or where it was trained again.
    """
    for name, digest in (("teacher_checkpoint", "teacher_digest"), ("init_from", "init_digest")):
        versions: dict[str, set[str]] = {}
        for each in rows:
            if each.get(digest) and each.get(name):
                versions.setdefault(each[name], set()).add(each[digest])
        yield from ((origin, len(of)) for origin, of in versions.items() if len(of) > 1)


def _key(each: dict, by_name: dict[str, dict], apart: Collection[str], depth: int = 0) -> str:
    """Return a key that is equal for the runs of one group. Weights of the names in `apart` count by their digests."""
    if "dataset" not in each:  # without a configuration, only the name is known
        return each["name"]
    apart_from = NOT_OF_GROUP | {*LEADING, "rows"}
    own = {key: value for key, value in each.items() if value and key not in apart_from and not is_latency(key)}
    own |= {"conv": conv} if (conv := asked(each)) else {}
    own |= {"is_shrunk": True} if each.get("shrunk_from") else {}
    own["dataset"] = dataset_key(own["dataset"], own.get("data_digest"))
    origins = [each.get("init_from"), each.get("teacher_checkpoint") if each["taught"] else None]
    known = [
        _key(by_name[name], by_name, apart, depth + 1) if name in by_name and depth < GENERATIONS else name
        for name in origins
    ]
    digests = [each.get(digest) for name, digest in zip(origins, ("init_digest", "teacher_digest")) if name in apart]
    return json.dumps([own, known, digests], sort_keys=True, default=str)
