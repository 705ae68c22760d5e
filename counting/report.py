"""What count.py says of one conv or of several, as text.

costs = resolved_summary(config, batch=128)
print(text(costs))
print(layer_table(costs["layers"], batch=128))
"""

from counting import latency
from counting.budget import resolve
from counting.costs import gated, staying, summary
from counting.measure import scientific
from system.errors import RequestError


def resolved_summary(config: dict, batch: int) -> dict:
    """Return the `summary` of a configuration after its budget is resolved.

    The key `budget` says what was asked for and what is achieved; it is None where there is no budget.
    """
    config, found = resolve(config, batch)
    return {**summary(config, batch), "budget": found and found._asdict()}


def text(costs: dict) -> str:
    """Return the costs of one network, a line each."""
    auxiliary = f" + {costs['auxiliary_params']:,} of the auxiliary head in both" if costs["auxiliary_params"] else ""
    reference_params = f"of {costs['reference_params']:,} parameters{auxiliary}"
    has_gates = "gate_params" in costs
    without = f", without the gates' {costs['gate_params']:,}" if has_gates else ""
    outside = costs.get("outside_convention")
    lines = [
        f"Mult-Adds: {scientific(costs['mult_adds'])}"
        + (f" (the published convention does not know {', '.join(outside)})" if outside else ""),
        f"Params: {costs['params']:.5E}",
        f"Sanity check, parameters: {costs['params_sanity']:.5E}",
        f"Exact mult-adds: {costs['mult_adds_exact']:.5E} (per image, in batches of {costs['batch']}{', of all channels' if has_gates else ''})",
        f"Ratio to the reference network: {costs['crs_ratio']:.6f} ({reference_params}{without})",
        f"Stored: {costs['stored_bytes']:,} bytes",
    ]
    lines += filter(None, [staying(costs), gated(costs)])
    if costs.get("active_fraction", 1) < 1:
        left, share, size = (costs[key] for key in ("active_parameters", "active_fraction", "sparse_bytes"))
        lines.append(
            f"Pruned: {left:,} parameters are not 0, {share:.6f} of the weights; a sparse file has {size:,} bytes"
        )
    if (active := costs.get("active_mult_adds")) not in (None, costs["mult_adds_exact"]):
        lines.append(
            f"Without dead filters: at best {scientific(active)} exact mult-adds (shrink.py says which can go)"
        )
    if budget := costs["budget"]:
        asked, achieved = f"{budget['asked']:,} {budget['unit']} asked", f"{budget['achieved']:,} achieved"
        share = budget["of_given_width"]
        given = f"; {share:.6f} of the parameters of the given width" if share is not None else ""
        lines.append(f"Budget: {asked}, {achieved} by {budget['setting']}{given}")
    return "\n".join([*lines, *latency.text(costs)])


def layer_table(layers: list[dict], batch: int) -> str:
    """Return a table with a row for each layer that has parameters or mult-adds."""
    from tabulate import tabulate  # most requests are for no table

    rows = [
        [
            layer["name"], layer["kind"], "×".join(map(str, layer["input"])), "×".join(map(str, layer["output"])),
            layer["parameters"], layer["mult_adds"], layer["exact_of_batch"] / batch,
        ]
        for layer in layers
    ]  # fmt: skip
    headers = ["layer", "kind", "input", "output", "params", "mult-adds", "exact"]
    return tabulate(rows, headers, intfmt=",", floatfmt=",.0f", missingval="–")


def compare(config: dict, convs: list[str], batch: int) -> list[dict]:
    """Return the summaries of several convs; of one that the network cannot take, its name and the reason.

    Raises RequestError where the network can take none of them.
    """
    rows = []
    for conv in convs:
        try:
            costs = resolved_summary({**config, "conv": conv}, batch)
            rows.append({key: value for key, value in costs.items() if key != "layers"})
        except RequestError as error:
            rows.append({"conv": conv, "error": str(error)})
    if all("error" in row for row in rows):
        raise RequestError(rows[0]["error"])
    return rows


def comparison_table(rows: list[dict]) -> str:
    """Return one table of several convs, a row each; with what pruning and gates leave and why one cannot be, where rows say so."""
    from tabulate import tabulate  # most requests are for no table

    columns = {  # header: key, format, what stands where there is none
        "conv": ("setting", "", ""), "params": ("params", "", ""), "ratio": ("ratio", ".6f", ""),
        "mult-adds, published": ("mult_adds", ",.0f", "–"), "exact": ("mult_adds_exact", ",.0f", ""),
        "stored bytes": ("stored_bytes", ",.0f", ""), "not 0": ("active_parameters", "", ""),
        "sparse bytes": ("sparse_bytes", "", ""), "gated, planned": ("mult_adds_gated", ",.0f", ""),
        **_columns_of_times(rows), "why not": ("error", "", ""),
    }  # fmt: skip
    always = {"conv", "params", "ratio", "mult-adds, published", "exact", "stored bytes"}
    rows = [{**row, **_setting_and_ratio(row)} for row in rows]
    shown = {name: of for name, of in columns.items() if name in always or any(of[0] in row for row in rows)}
    cells = [
        [None if "error" in row and key not in ("setting", "error") else row.get(key) for key, _, _ in shown.values()]
        for row in rows
    ]
    _, formats, missing = zip(*shown.values())
    table = tabulate(cells, list(shown), intfmt=",", floatfmt=formats, missingval=missing)
    where = next((row[latency.ON] for row in rows if latency.ON in row), None)
    about = "ms, N: median time of N images, all networks in turns; ±: its interquartile range; on"
    return f"{table}\n{about} {where}" if where else table


def _columns_of_times(rows: list[dict]) -> dict[str, tuple[str, str, str]]:
    columns = {}
    for size in sorted({size for row in rows for size in latency.sizes_of(row)}):
        columns[f"ms, {size:,}"] = f"latency_ms_{size}", ",.3f", ""
        columns[f"± {size:,}"] = f"latency_spread_ms_{size}", ",.3f", ""
        columns[f"dense ms, {size:,}"] = f"latency_dense_ms_{size}", ",.3f", "–"
        columns[f"± dense {size:,}"] = f"latency_dense_spread_ms_{size}", ",.3f", "–"
    return columns


def _setting_and_ratio(row: dict) -> dict:
    """Return what a row is called and its share of the parameters: of the given width where a budget found the width."""
    budget = row.get("budget") or {}
    whole = row["params"] / row["reference_params"] if "gate_params" in row else row.get("crs_ratio")  # with its gates
    ratio = budget.get("of_given_width") or whole
    return {"setting": budget.get("setting") or row["conv"], "ratio": ratio}
