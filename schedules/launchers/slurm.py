"""Tasks as jobs of SLURM: one array for all that are handed over at once, by submitit (github.com/facebookincubator/submitit).

    launcher = Slurm(Namespace(job_cpus=4, job_gpus=1, time_limit=60, partition="gpu", account=None, sbatch={"qos": "long"},
                               slots=None, folder=Path("runs/.slurm")))
    launcher.start(tasks)

A job that meets its time limit, or is preempted, writes a checkpoint and is queued again, any number of times; how it ends
at last is read from the file that submitit leaves, so no accounting is needed. The folder has to be one that every node
sees. Which job has which task stands in its `jobs.jsonl` before sbatch is called: a launcher that is killed and started
again goes on with the same jobs.
"""

import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from argparse import Namespace
from collections.abc import Sequence
from itertools import batched, groupby
from pathlib import Path

from errors import RequestError, first_line
from schedules.launchers import Task
from schedules.launchers.process import begin
