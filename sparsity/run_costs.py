"""What the network of a run costs, as count.py says it of a network that is named by its flags.

costs = costs_of_run("digits.topk", batch=128)
"""

from counting.costs import summary
from record.checkpoint import load_run
from sparsity.density import counted
from sparsity.skipped import active_mult_adds
from system.errors import RequestError
from weights.restore import restore


def costs_of_run(name: str, batch: int) -> dict:
    """Return the `summary` of a run's network as its checkpoint says it, and what of its weights is not 0.

    Raise RequestError where there is no such run.
    """
    saved = load_run(name, "run")
    config, network = saved["config"], restore(name, saved)
    left = counted(network, config.get("prune_where") or "")
    costs = {**summary(config, batch), "budget": None, "run": name, **left.metrics}
    if config.get("gate"):  # which filters are dead is asked of all images at once, and gates choose for each
        return costs
    try:
        costs["active_mult_adds"] = active_mult_adds(network, config, batch)
    except RequestError:  # a user's own convolution, of which nothing is known
        costs["active_mult_adds"] = None
    return costs
