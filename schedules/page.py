"""Write a study as one page that needs nothing else: its figures, a table of all runs, and a tooltip for every point.

    html = page(study, [(0, "params", svg), …])        # figures as schedules.plot drew them, by pair and kind
    Path("study.html").write_text(html)

The template is page.html beside this file. A page works from a disk, without a server. It gets names and reasons as
JSON and shows them as text, never as markup.
"""

import json
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from types import MappingProxyType

from schedules.comparable import network_name
from schedules.figures.captions import measure_name
from schedules.figures.style import FAINT, INK, MUTED, PAPER, human, look
from schedules.labelling import described
from schedules.outcomes import Group, Run, Study
from schedules.published import NOTE, shown_range
from schedules.table import TEXT, finite, latency_sizes, percent

TEMPLATE = Path(__file__).with_name("page.html")
GENERATOR = '<meta name="generator" content="swapconv">'  # not in page.html, which is no page yet
POINTS_OF_GATES = 691  # width of a heat map of gates, 9.6 inches
POINTS = 48  # of a learning curve in a tooltip
TITLES = {
    "params": "Error against parameters", "active": "Error against parameters that are not 0",
    "share": "Error against the share of the weights that are not 0", "traces": "How sparse the networks became",
    "active_mult_adds": "Error against mult-adds without dead filters", "gated": "Error against mean mult-adds with gates",
    "mult_adds": "Error against mult-adds", "curves": "Learning curves",
    "dimensions": "Error by share and dimensions",
    "crs": "Weight decay, scaled by the compression ratio or not",
}  # fmt: skip
COLUMNS = (
    "state", "taught", "epochs_done", "epochs_planned", "params", "mult_adds", "mult_adds_exact", "crs_ratio",
    "stored_bytes", "gate_density", "mult_adds_gated", "seconds", "seed", "dataset", "network", "active_parameters",
    "percent_of_teacher_params", "gap_to_teacher", "gap_to_teacher_verdict", "published_min_test_top1_error",
)  # fmt: skip


def _title(kind: str) -> str:
    """Return what a kind of figure shows."""
    _, is_time, size = kind.partition("latency_")
    return f"Error against the time of inference, batches of {size}" if is_time else TITLES[kind]


def page(
    study: Study | None, figures: Iterable[tuple[int, str, str]], heat_maps: Mapping[str, bytes] = MappingProxyType({})
) -> str:
    """Return the page.

    Args: study: None where there are heat maps alone; figures: SVG texts, each with the place of its pair in the study and its kind;
    heat_maps: PNG files of the gates of runs, by their names.
    """
    parts, colours = [], {}
    for number, (place, kind, svg) in enumerate(figures):
        pair = study.pairs[place]
        title = escape(f"{_title(kind)}: {pair.title}")
        own = None if kind == "dimensions" else colours  # its colours are a scale, which a dark page would turn around
        parts.append(f'<figure class="{kind}"><h2>{title}</h2>{inline(svg, f"f{number}-", title, own)}</figure>')
    parts += [_heat_map(name, png) for name, png in heat_maps.items()]
    runs, conflicts = (study.runs, study.conflicts) if study else ([], [])
    states = Counter(run["state"] for run in runs)
    summary = ", ".join(f"{count} {state}" for state, count in sorted(states.items(), key=lambda each: -each[1]))
    summary += f". {NOTE[0].upper()}{NOTE[1:]}" if any(shown_range(run) for run in runs) else ""
    summary = f"{len(runs)} runs: {summary}." if study else "Which channels of its gated layers a class opens."
    values = {
        "GENERATOR": GENERATOR,
        "TITLE": escape(study.path.stem if study else ", ".join(heat_maps)),
        "SUMMARY": escape(summary),
        "CONFLICTS": "".join(f"<li>{escape(text)}</li>" for text in conflicts),
        "FIGURES": "\n".join(parts),
        "LIGHT": " ".join(f"{name}: {colour};" for name, colour in colours.items()),
        "DARK": " ".join(f"{name}: {_lightened(colour)};" for name, colour in colours.items()),
        "DATA": _json(data(study) if study else {"measure": "error", "latency_sizes": [], "runs": [], "groups": {}}),
    }
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda place: values[place[1]], TEMPLATE.read_text(encoding="utf-8"))


def _heat_map(name: str, png: bytes) -> str:
    """Return a figure that holds a PNG file."""
    title = escape(f"Which channels each class opens: {name}")
    source = b64encode(png).decode()
    return f'<figure class="gates"><h2>{title}</h2><img alt="{title}" style="--points: {POINTS_OF_GATES}" src="data:image/png;base64,{source}"></figure>'


def is_page(contents: bytes) -> bool:
    """Return whether a file is a page of this module, which may be replaced."""
    return contents.startswith(b"<!DOCTYPE html>") and GENERATOR.encode() in contents[:4096]


def data(study: Study) -> dict:
    """Return what the script of the page reads: the runs for its table, the groups for its tooltips."""
    groups = [group for pair in study.pairs for group in pair.groups]
    of_run = {id(run): group for group in groups for run in group.runs}
    drawn = {group.number: group for pair in study.pairs if not pair.is_shown_elsewhere for group in pair.groups}
    gated = {
        id(run): group.suffix for pair in study.pairs if pair.is_gated for group in pair.groups for run in group.runs
    }
    usual = {pair.network: Counter(network_name(run) for run in pair.runs).most_common(1)[0][0] for pair in study.pairs}
    runs = [_run(run, of_run.get(id(run)), study.measure, usual, gated.get(id(run), "")) for run in study.runs]
    for run in runs:
        if run.get("group") not in drawn:  # no figure has its point
            run.pop("group", None)
    return {
        "measure": measure_name(study.measure),
        "latency_sizes": sorted({size for run in study.runs for size in latency_sizes(run)}),
        "runs": runs,
        "groups": {number: _group(group, study.measure) for number, group in drawn.items()},
    }


def inline(svg: str, prefix: str, title: str, colours: dict[str, str] | None) -> str:
    """Return an SVG file as a part of a page.

    Its ids begin with `prefix`, its points can be reached by the keyboard, and its colours are variables, which are
    added to `colours`, as a dark page has others. Where `colours` is None they stay as they are.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    mark = rf'\1role="group" aria-label="{title}" style="--points: \2"'
    svg = re.sub(r'(<svg [^>]*?)width="([\d.]*)[^"]*" height="[^"]*"', mark, svg, count=1)
    svg = re.sub(r'id="(point|label|error|curve|train|trace)-(\d+)"', _group_mark, svg)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}", svg)

    def variable(match: re.Match) -> str:
        known = {INK: "ink", MUTED: "muted", FAINT: "faint", PAPER: "paper"}.get(match[1])
        if known is None:
            known = "c" + match[1][1:]
            colours[f"--{known}"] = match[1]
        return f": var(--{known})"

    svg = svg if colours is None else re.sub(r": (#[0-9a-f]{6})\b", variable, svg)
    return re.sub(r"\s*\n\s*", " ", svg)


def _group_mark(match: re.Match) -> str:
    what, number = match.groups()
    return f'class="{what}" data-group="{number}"' + (' tabindex="0" role="img"' if what == "point" else "")


def _run(run: Run, group: Group | None, measure: str, usual: dict[str, str], suffix: str) -> dict:
    """Return the cells of a run; its conv names the network too where its width is unlike that of most runs.

    `suffix`: what tells its group from others that are gated too.
    """
    times = (f"latency_ms_{size}" for size in latency_sizes(run))
    shown = {name: run.get(name) for name in (*COLUMNS, *times)}
    shown = {name: value for name, value in shown.items() if name in (*TEXT, "taught") or finite(value)}
    shown |= {"name": run["name"], "reason": run["reason"]}
    shown["published"] = shown_range(run) or None
    if not run["network"]:  # it ended before it had a configuration
        shown |= dict.fromkeys(("dataset", "network", "taught"))
    else:
        shown["conv"] = described(run, suffix) if run.get("conv") else run["family"]
        if network_name(run) != usual.get(run["network"], network_name(run)) and network_name(run) not in suffix:
            shown["conv"] += f", {network_name(run)}"
    if not run.get("epochs_planned"):
        shown |= dict.fromkeys(("epochs_done", "epochs_planned"))
    shown["error"] = run.get(measure) if finite(run.get(measure)) else None
    if group is not None:
        shown |= {"group": group.number, "mean": group.error, "std": group.std}
    return {name: value for name, value in shown.items() if value is not None}


def _group(group: Group, measure: str) -> dict:
    """Return what a tooltip shows; its learning curve has at most about POINTS points."""
    costs = {"params": "parameters", "mult_adds_exact": "mult-adds, exact", "mult_adds": "mult-adds, published"}
    costs |= {"mult_adds_gated": "mult-adds, gated"} if finite(group.first.get("mult_adds_gated")) else {}
    costs |= {"active_parameters": "parameters not 0"} if finite(group.first.get("active_parameters")) else {}
    costs |= {f"latency_ms_{size}": f"ms, batch {size}" for size in latency_sizes(group.first)}
    curve = group.curve(measure.removeprefix("best_"))
    step = max(1, -(-len(curve) // POINTS))
    return {
        "label": group.label, "taught": group.taught, "role": group.role, "runs": [run["name"] for run in group.runs],
        "error": round(group.error, 4), "std": group.std and round(group.std, 4),
        "colour": {"teacher": "--ink", "control": "--muted"}.get(group.role) or f"--c{look(group.family).colour[1:]}",
        "costs": [[words, human(value) if finite(value := group.cost.get(cost)) else "–"] for cost, words in costs.items()]
        + _compared(group.first),
        "curve": [[epoch, round(error, 3)] for epoch, error in sorted({*curve[::-step]})],
    }  # fmt: skip


def _compared(run: Run) -> list[list[str]]:
    """Return what a tooltip says of a group beside its teacher and what is published, from its first run."""
    share, gap, published = run.get("percent_of_teacher_params"), run.get("gap_to_teacher"), shown_range(run)
    shown = [["of the teacher's parameters", percent(share)]] if finite(share) else []
    if finite(gap):
        shown.append(["test error − teacher's", f"{gap:+.2f}, {run.get('gap_to_teacher_verdict')}"])
    return [*shown, *([["published error", f"{published} %"]] if published else [])]


def _json(value: dict) -> str:
    """Return JSON for a script element: without `<`, which could end it, and with null for numbers that JSON lacks."""

    def plain(part):
        match part:
            case dict():
                return {str(name): plain(each) for name, each in part.items()}
            case list():
                return [plain(each) for each in part]
            case float() if part != part or part in (float("inf"), float("-inf")):
                return None
        return part

    text = json.dumps(plain(value), ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _lightened(colour: str) -> str:
    """Return the colour for a black page: nearer to white, but for colours that are light already."""
    parts = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    luminance = (0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]) / 255
    share = min(0.55, max(0.0, 0.72 - luminance))
    return "#" + "".join(f"{round(part + share * (255 - part)):02x}" for part in parts)
