"""Write a trained network as a file for other programs: ONNX, a program of torch.export, or safetensors. The file is checked.

    python export.py digits.teacher --to onnx
    python export.py digits.student --to onnx --dense --with_preprocessing -o student.onnx
    python export.py digits.student --to safetensors

It takes images and returns logits (docs/export.md). No file is replaced, and one that fails its check is not left.
"""

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))  # with PYTHONSAFEPATH Python does not

from cli import command, exporting
from system import threads

if __name__ == "__main__":
    command.check(exporting.exporting)  # --help and a wrong request are answered before torch is imported
    threads.configure()

import torch

from exporting.export import export_network


def main(arguments: list[str] | None = None) -> int:
    """Run one command line. Return the exit status."""
    return export_network(exporting.exporting(arguments))


if __name__ == "__main__":
    threads.sleep_when_busy(torch.get_num_threads())
    sys.exit(command.run(main))
