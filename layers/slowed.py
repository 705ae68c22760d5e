"""At which part of the learning rate parameters learn whose steps move a kernel far (training/structured_lr.py).

rate_of_sum(57)        # 0.07
"""

LONGEST = 4  # dense kernels' steps: so far may one step move a kernel


def rate_of_sum(n: float) -> float:
    """Return by what to multiply the learning rate where n steps that agree add up: min(1, 4/n), to two digits.

    With the whole rate the kernel can grow along few directions; batch-norm hides its size from the loss, and the gradient is
    lost. 4/n is a fit to two shares of Hashed in 3×3 kernels, and OriginalACDC has it from there (docs/results.md). Two digits:
    layers with about the same n are in one group of the optimizer.
    """
    return float(f"{min(1.0, LONGEST / n):.2g}")
