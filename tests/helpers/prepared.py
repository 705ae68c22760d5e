"""What the server of children.py does once: it imports the program and reads the digits."""

import children  # noqa: F401
import torch._dynamo  # noqa: F401  # DistributedDataParallel imports it, which takes longer than a short run
from kept_digits import kept_digits

import main  # noqa: F401
from input import places

places.digits = kept_digits()
places.find("digits", None).read(1)
