"""Blocks beside what NumPy makes of their parameters."""

import math

import numpy as np

from blocks import block
from layers.acdc import ACDC
from layers.base import ChannelMap
from layers.spec import ConvSpec


def make(conv, i, o, k=3, seed=0):
    made = block(conv, ConvSpec(i, o, k), seed, "groups.0.0.conv1")
    return made, {name: parameter.detach().double().numpy() for name, parameter in made.named_parameters()}


def check(made, matrix, depthwise):
    """W[o, i] = M[o, i]·D[i]"""
    expected = matrix[:, :, None, None] * (depthwise[:, 0] if depthwise is not None else 1.0)
    np.testing.assert_allclose(made.weight().detach().numpy(), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def splitmix_order(entries, key):
    """Positions sorted by SplitMix64's finaliser on unsigned integers, from its definition."""
    x = np.arange(entries, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort((x ^ (x >> np.uint64(31))).astype(np.int64), kind="stable")


def counted_and_seen(part, pixels):
    """Multiply-adds of a map that runs the faster way: what is told of it, those of the cheaper way, and what torch sees run.

    None of other parts: they run what is told. torch's counter does not see ACDC's cosine transforms by FFT.
    """
    if not isinstance(part, ChannelMap) or type(part).applies_factors is ChannelMap.applies_factors:
        return None
    dense = part.in_channels * part.out_channels * pixels
    if isinstance(part, ACDC):
        a_row = len(part.a) * 2 * 2.5 * part.square.size * math.log2(part.square.size)
        ways, seen = [round(a_row * pixels), round(a_row * part.in_channels) + dense], [0, dense]
    else:
        ways = seen = [part.factor_mult_adds(pixels), part.rebuild_mult_adds() + dense]
    return min(ways), seen[0 if part.applies_factors(pixels) else 1]
