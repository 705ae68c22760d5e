"""A few of scikit-learn's digits as a feed.

data = few_digits(200, 32)
"""

from input.augment import Augmentation
from input.batches import BatchPlan
from input.datasets import DATASETS
from input.memory import Data
from input.places import find


def few_digits(training: int, test: int) -> Data:
    """Return so many training and test images, in batches of 32 that are not flipped."""
    plan = BatchPlan(Augmentation(flip=False), 32, seed=0)
    data = Data(find("digits", None).read(1), DATASETS["digits"], plan)
    data.training, data.test = data.training.head(training), data.test.head(test)
    return data
