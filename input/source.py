"""A place where a dataset was found, and what reads it from there.

    source = Source("scikit-learn's digits", read)       # read(workers, keep) returns Images
    images = source.read(workers=4)

Imports no torch.
"""

from collections.abc import Callable
from dataclasses import dataclass

from input.arrays import Images
from input.photos.index import Photographs


@dataclass(frozen=True)
class Source:
    """Where a dataset lies, in words for a person, and the function of (workers, keep) that reads it."""

    where: str
    reader: Callable[[int, bool], Images | Photographs]

    def read(self, workers: int, keep: bool = True) -> Images | Photographs:
        """Read the dataset, which may take minutes.

        Args: workers: threads that decode; keep: whether decoded images, or the index of the files, may be written to a
        cache. Raises MachineFault where files are damaged, RequestError where a folder of photographs has another
        layout.
        """
        return self.reader(workers, keep)
