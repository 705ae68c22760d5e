"""Libraries that tests compare with, imported when one is first used: each takes seconds that the other tests need not wait."""

import warnings
from importlib import import_module


class Reference:
    """A module, by its name: its attributes are the module's."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str):
        if attribute.startswith(("_", "pytest")):  # pytest asks every name in a test module
            raise AttributeError(attribute)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of a source that is compiled now for the first time are not ours
            return getattr(import_module(self._name), attribute)


torchvision, transforms = Reference("torchvision"), Reference("torchvision.transforms")
datasets_of_sklearn, tntorch = Reference("sklearn.datasets"), Reference("tntorch")
statistics_of_scipy, transforms_of_scipy = Reference("scipy.stats"), Reference("scipy.fft")
