"""Make a smaller network of a run whose filters are dead: they are removed, and its outputs stay. It becomes a run itself.

    python shrink.py digits.topk -s digits.small
    python main.py digits teacher -t digits.small --evaluate
    python main.py digits teacher -t digits.tuned --init_from digits.small --epochs 4 --lr 0.01

Dead are filters of zeros: those that masks or --l1 have emptied, or that GroupVD has switched off; with --dead EPS those too
whose largest |w| is below EPS. sparsity/removal.py says which of them can go.
"""

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))  # with PYTHONSAFEPATH Python does not

from cli import command, shrinking
from system import threads

if __name__ == "__main__":
    command.check(shrinking.shrinking)  # --help and a wrong request are answered before torch is imported
    threads.configure()

import torch

from sparsity.shrinking import shrink_run


def main(arguments: list[str] | None = None) -> int:
    """Run one command line. Return the exit status."""
    return shrink_run(shrinking.shrinking(arguments), shrinking.testing)


if __name__ == "__main__":
    threads.sleep_when_busy(torch.get_num_threads())
    sys.exit(command.run(main))
