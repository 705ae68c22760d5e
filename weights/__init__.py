"""Trained networks, wherever they come from.

    from weights import load
    network = load("wrn.teacher")                # a module: normalised images in, logits out

`load` is imported when it is asked for: names of weights are read (weights/sources.py) before torch is.
"""

PUBLIC = {"load": "weights.classifier:load"}


def __getattr__(name: str):
    """Import what is asked for by its name."""
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pkgutil import resolve_name

    return resolve_name(PUBLIC[name])
