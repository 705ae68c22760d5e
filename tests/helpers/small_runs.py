"""Small real runs on digits as processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = (
    "--wrn_depth 10 --wrn_width 0.25 --train_size 400 --batch_size 32 --epochs 2".split()
)  # 13 steps an epoch, the last of 16


def process(*arguments: str, cwd: Path, program: str = "main.py", **keywords) -> subprocess.Popen:
    """Start main.py, or another program of the root."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} | keywords.pop("env", {})
    return subprocess.Popen(
        [sys.executable, ROOT / program, *arguments],
        cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **keywords,
    )  # fmt: skip
