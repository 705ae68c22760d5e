"""Draw the figures of a study from the table of `python -m schedules.collate`, as PNG (200 dpi) and SVG.

    python -m schedules.plot study.csv --out figures
    python -m schedules.plot study.csv --mult_adds published --html study.html
    python -m schedules.plot --gates digits.fbs digits.naive --html gates.html

For each dataset, network and number of epochs it draws error against parameters and against mult-adds; learning curves
where study.json lies beside the table; the gain of compression-ratio scaled weight decay where a setting was trained
with it and without; where weights became 0, error against what is left of them, and how that came over the epochs;
where channels are chosen for each image, error against mean mult-adds; where inference was timed on one machine
(--latency of main.py), error against that time; and where a family has several shares and dimensions, a heat map of
error over both. --gates draws which channels of gated runs each
class of the test images opens. It prints the name of each file.
"""

import sys
from pathlib import Path

if not __package__:  # started as a file: its imports lie in the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from cli import command
from schedules.outcomes import MEASURES, Pair, Study, read
from system import arguments as system_arguments
from system import files as system_files
from system.configuration import Configuration
from system.errors import RequestError
from weights.sources import check_run_name

KINDS = (
    "params", "active", "share", "active_mult_adds", "traces", "gated", "dimensions", "mult_adds", "curves", "crs",
)  # of figures of a study, beside latency_N for N images  # fmt: skip
ONE_TEACHER = "it is a teacher alone, whose error the figures of its students show"


def options(arguments: Sequence[str] | None = None) -> Configuration:
    """Return the request."""
    parser = command.Parser(prog="python -m schedules.plot", description="Figures of a study that has been collated.")
    parser.add_argument(
        "study", nargs="?", type=system_arguments.filename, metavar="STUDY.csv", help="what schedules.collate wrote"
    )
    parser.add_argument(
        "--gates",
        nargs="+",
        metavar="NAME",
        default=[],
        help="runs with gates: which channels each class opens, as NAME.gates.png",
    )
    parser.add_argument(
        "--out",
        type=system_arguments.filename,
        metavar="FOLDER",
        help="where figures go (default: beside the study, or here)",
    )
    parser.add_argument(
        "--mult_adds",
        type=system_arguments.choice("convention", ["exact", "published"]),
        default="exact",
        help="exact | published: how mult-adds are counted",
    )
    parser.add_argument(
        "--error",
        type=system_arguments.choice("error", MEASURES),
        default=MEASURES[0],
        metavar="COLUMN",
        help=" | ".join(MEASURES),
    )
    parser.add_argument(
        "--html", type=system_arguments.filename, metavar="FILE", help="one page with everything in it too"
    )
    request = Configuration(vars(parser.parse_args(arguments)))
    if request.study is None and not request.gates:
        raise RequestError("there is nothing to draw: give STUDY.csv, or --gates NAME")
    for name in request.gates:
        check_run_name(name, "--gates")
    if twice := [name for name, times in Counter(request.gates).items() if times > 1]:
        raise RequestError(f"--gates names {twice[0]!r} twice: give each run once")
    return request


def figures(study: Study, mult_adds: str, only: str | None = None) -> Iterator[tuple[Pair, str, object]]:
    """Yield each pair with a kind of figure and the figure, or None where there is nothing to draw.

    A pair that holds a teacher alone, which another figure shows beside its students, has no figures.
    `mult_adds`: the convention of counting, `exact` or `published`; `only`: one kind alone.
    """
    from schedules.figures.ablation import ablation
    from schedules.figures.curves import curves
    from schedules.figures.dimensions import dimensions, has_dimensions
    from schedules.figures.traces import traces
    from schedules.figures.tradeoff import tradeoff

    def against(pair: Pair, cost: str):
        return None if pair.has_one_cost(cost) else tradeoff(pair, cost, study.measure)

    exact = "mult_adds_exact" if mult_adds == "exact" else "mult_adds"
    for pair in study.pairs:
        if pair.is_shown_elsewhere:
            continue
        sparse = {
            "active": lambda pair=pair: tradeoff(pair, "active_parameters", study.measure),
            "share": lambda pair=pair: tradeoff(pair, "active_fraction", study.measure),
            "active_mult_adds": lambda pair=pair: tradeoff(pair, "active_mult_adds", study.measure),
            "traces": lambda pair=pair: traces(pair),
        }
        gated = {"gated": lambda pair=pair: tradeoff(pair, "mult_adds_gated", study.measure)}
        times = {
            f"latency_{size}": lambda pair=pair, size=size: tradeoff(pair, f"latency_ms_{size}", study.measure)
            for size in pair.latency_sizes
        }
        of_dimensions = {"dimensions": lambda pair=pair: dimensions(pair, study.measure)}
        for kind, draw in {
            "params": lambda pair=pair: against(pair, "params"),
            **(sparse if pair.is_pruned else {}),
            **(gated if pair.is_gated else {}),
            **(of_dimensions if has_dimensions(pair) else {}),
            "mult_adds": lambda pair=pair: against(pair, exact),
            **times,
            "curves": lambda pair=pair: curves(pair, study.measure),
            "crs": lambda pair=pair: ablation(pair, study.measure),
        }.items():
            if only in (None, kind):
                yield pair, kind, draw()


def file_names(study: Study) -> dict[int, str]:
    """Return the beginning of the file names of each pair, by its place in the study.

    They hold the names of the study, the dataset and the network, then what tells pairs of one dataset and network
    apart, such as `.WRN-16-1.30_epochs`.
    """
    names: dict[int, str] = {}
    for place, pair in enumerate(study.pairs):
        apart = [pair.comparison.words[kind] for kind in pair.apart]
        words = ".".join([study.path.stem, pair.dataset, pair.network, *apart]).replace(",", "")
        name = re.sub(r"[^\w.+-]+", "_", words)[:120]
        names[place] = name if name.lower() not in {each.lower() for each in names.values()} else f"{name}.{place}"
    return names


def why_not(pair: Pair, kind: str, mult_adds: str) -> str:
    """Say why there is no figure of a kind."""
    same = "all its settings cost the same, .gated tells them apart"
    uncounted = "the published convention does not know all that its networks run (--mult_adds exact does)"
    one_cost = pair.has_one_cost("mult_adds_exact" if mult_adds == "exact" else "mult_adds")
    no_epochs = "no run has kept its epochs (is the .json of the study beside it?)"
    if kind.startswith("latency"):
        several = f"inference was timed on several machines ({'; '.join(pair.machines)}), whose times do not compare"
        untimed = "not all of its runs say how long inference takes (main.py … --resume --latency adds it)"
        return several if len(pair.machines) > 1 else untimed
    return {
        "params": same,
        "mult_adds": same if one_cost else uncounted,
        "active_mult_adds": "a sparse run does not say its mult-adds without dead filters (docs/sparsity.md)",
        "traces": no_epochs,
        "curves": no_epochs,
        "crs": "no setting was trained with and without CRS (--nocrswd, --crs_factor)",
    }[kind]


def _heat_maps(names: Sequence[str]) -> list:
    if not names:
        return []
    from schedules.heat_maps import heat_maps  # imports torch

    return heat_maps(names)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    request = options(arguments)
    if request.html:
        from schedules.page import is_page

        system_files.keep("--html", request.html, "earlier page of schedules.plot", is_page)
    from schedules.figures.output import make_folders, rendered, write

    study = read(request.study, request.error) if request.study else None
    folder, page = Path(request.out or Path(request.study or "").parent), None
    maps = {name: rendered(figure, "png") for name, figure in _heat_maps(request.gates)}
    names = file_names(study) if study else {}
    drawn = [
        (
            study.pairs.index(pair),
            kind,
            {format: rendered(figure, format) for format in ("png", "svg")} if figure else None,
        )
        for pair, kind, figure in (figures(study, request.mult_adds) if study else ())
    ]
    if request.html:
        from schedules.page import page as whole_page

        page = whole_page(study, [(place, kind, files["svg"].decode()) for place, kind, files in drawn if files], maps)
    make_folders({"--out": folder} | ({"--html": Path(request.html).parent} if request.html else {}))
    for name, png in maps.items():
        write(folder / f"{name}.gates.png", png)
    for place, kind, files in drawn:
        for format, contents in (files or {}).items():
            write(folder / f"{names[place]}.{kind}.{format}", contents)
        if files is None:
            pair = study.pairs[place]
            print(f"no {names[place]}.{kind} for {pair.title}: {why_not(pair, kind, request.mult_adds)}")
    for place, pair in enumerate(study.pairs if study else ()):
        if pair.is_shown_elsewhere:
            print(f"no {names[place]} for {pair.title}: {ONE_TEACHER}")
    if page is not None:
        write(Path(request.html), page.encode())
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
