"""Scikit-learn's digits, read once in a process.

places.digits = kept_digits()
"""

import copy
import functools

from input import places
from input.source import Source


def kept_digits():
    """Return what finds the digits as `input.places.digits` does, keeps what it has read, and gives copies of it."""
    found = places.digits

    @functools.cache
    def read():
        ((_, source),) = found("digits", None, None)
        return source.read(1)

    def digits(name, dataset, data_dir):
        ((place, source),) = found(name, dataset, data_dir)
        return [(place, Source(source.where, lambda workers, keep: copy.deepcopy(read())))]

    return digits
