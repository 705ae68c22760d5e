"""Run tasks as jobs of SLURM, by submitit (github.com/facebookincubator/submitit): an array for all of one start.

    launcher = build("slurm", options)                     # the options of schedules.run
    launcher.start(tasks)

A job that meets its time limit or is preempted writes a checkpoint and is queued again, any number of times. Its last
end is read from the file that submitit leaves, so no accounting is needed; all nodes have to see the folder. The tasks
of an array are written there before sbatch is called, so a launcher that is killed and started again adopts them.

SLURM may signal every process of a job's step, main.py too. All signals that are sent are therefore ones at which
main.py stops: USR1 before a time limit, TERM at a preemption or scancel, HUP from our own `stop`.
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
from collections.abc import Sequence
from pathlib import Path

from schedules.launchers import Task
from schedules.launchers.process import start_process
from system.configuration import Configuration
from system.errors import MachineFault, RequestError

ROOT = Path(__file__).parents[2]
FOLDER = Path(".slurm")  # for submitit's files and the tasks of arrays
STOPPED = 143  # main.py's exit status after any of these signals
WARNING = 120  # seconds before its time limit at which a job gets the signal to stop, if the limit is not short
LOOK_EVERY = 5.0  # seconds between two questions to SLURM, however many jobs there are
ANSWER = 30.0  # seconds that SLURM may take to answer a question
RESTART = 60.0  # seconds that SLURM's controller may be away
PATIENCE = 30.0  # seconds until a result is seen through a network's file system
ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
}  # fmt: skip


class Slurm:
    """Launcher whose queue is SLURM's own. `slots` limits how many tasks of one `start` run at once."""

    def __init__(self, options: Configuration):
        try:
            import submitit  # here, for the launchers that do not need it
        except ImportError:
            raise RequestError("--launcher slurm needs the package submitit: pip install -r requirements-clusters.txt")
        for program in ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo"):
            if shutil.which(program) is None:
                raise RequestError(f"--launcher slurm needs SLURM's {program}, which is not on this machine's PATH")
        for key in {"array", "job-name"} & set(options.sbatch):
            raise RequestError(f"--{key} of sbatch cannot be chosen, the launcher sets it")
        self.options, self.submitit = options, submitit
        self.folder = FOLDER.absolute()
        self.largest_array = _largest_array()
        self.has_gpus = _has_gpus(options.partition) if options.job_gpus is None else options.job_gpus > 0
        self.most_gpus = math.inf  # sbatch refuses too many
        self.arrays: dict[str, list[str]] = {}  # the tasks of each array of this folder, by its job name
        self.jobs: dict[str, str] = {}  # the job of each task whose end is not reported yet
        self.missed: dict[str, float] = {}  # when a task's job was first not found
        self.next_look = 0.0

    def about(self) -> str:
        """Return what a job asks for and the partition, in words."""
        each = [f"{self.options.job_cpus} CPUs", *(["GPUs"] if self.has_gpus else [])]
        where = f" in {self.options.partition}" if self.options.partition else ""
        most = f", at most {self.options.slots} at once" if self.options.slots else ""
        return f"jobs of {' and '.join(each)} under SLURM{where}{most}"

    def room(self) -> float:
        """Return infinity: SLURM's queue takes all tasks."""
        return math.inf

    def start(self, tasks: Sequence[Task]) -> None:
        """Submit tasks, and adopt those that run already; raise RequestError, in SLURM's words, where it refuses."""
        if not tasks:
            return
        running = {name: job for job, name in self._certainly_live().items()}
        self.jobs |= {task.name: running[task.name] for task in tasks if task.name in running}
        batches = [
            tasks_of_kind[start : start + self.largest_array]
            for tasks_of_kind in _by_gpus([task for task in tasks if task.name not in running])
            for start in range(0, len(tasks_of_kind), self.largest_array)
        ]
        for batch in batches:
            self._submit(batch, max(1, (self.options.slots or sys.maxsize) // len(batches)))

    def ended(self) -> list[tuple[str, int | None]]:
        """Return the tasks that have ended since the last call. SLURM is asked every LOOK_EVERY seconds at most."""
        now = time.monotonic()
        if not self.jobs or now < self.next_look:
            return []
        live, self.next_look = self._live(), now + LOOK_EVERY
        if live is None:
            return []
        ends = []
        for name, job in list(self.jobs.items()):
            if job in live:
                self.missed.pop(name, None)
                continue
            found, status = self._result(job)
            if found or now - self.missed.setdefault(name, now) >= PATIENCE:
                del self.jobs[name]
                self.missed.pop(name, None)
                ends.append((name, status))
        return ends

    def stop(self) -> None:
        """Stop all jobs of this folder, those of an earlier launcher too.

        Signals are sent again and again, as none reaches a job between the queue and its node.
        """
        while live := self._certainly_live():
            arrays = sorted({job.partition("_")[0] for job in live})
            _call("scancel", "--quiet", "--state=PENDING", *arrays)
            _call("scancel", "--quiet", "--state=RUNNING", "--signal=HUP", *arrays)
            time.sleep(1)
        self.jobs = {name: job for name, job in self.jobs.items() if self._result(job)[0]}
        self.next_look = 0.0

    def _submit(self, tasks: list[Task], at_once: int) -> None:
        """Submit an array, or a plain job where there is one task."""
        label = f"swapconv-{uuid.uuid4().hex[:8]}"
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{label}.json").write_text(json.dumps([task.name for task in tasks]))
        executor = self.submitit.SlurmExecutor(self.folder)
        executor.update_parameters(**self._parameters(label, tasks[0].gpus, min(at_once, len(tasks))))
        try:
            jobs = executor.map_array(attend, tasks, [self.options.job_cpus] * len(tasks))
        except self.submitit.core.utils.FailedJobError as error:
            raise RequestError("sbatch refused: " + _last_words(str(error)))
        self.jobs |= {task.name: job.job_id for task, job in zip(tasks, jobs)}

    def _parameters(self, label: str, gpus: int, at_once: int) -> dict:
        """Return submitit's parameters of an array."""
        options, cpus = self.options, self.options.job_cpus
        warning = min(WARNING, options.time_limit * 60 // 4) if options.time_limit else WARNING
        chosen = {
            "job_name": label,
            "time": options.time_limit,  # None is the partition's own; submitit's would be five minutes
            "cpus_per_task": cpus,
            "gpus_per_node": gpus if self.has_gpus and gpus else None,
            "partition": options.partition,
            "account": options.account,
            "array_parallelism": at_once,
            "srun_args": [f"--cpus-per-task={cpus}"],  # since SLURM 22.05 a step does not have its job's
            "setup": [f'export PYTHONPATH={shlex.quote(str(ROOT))}"${{PYTHONPATH:+:$PYTHONPATH}}"'],
        }
        further = {key: value or True for key, value in options.sbatch.items()}  # a flag such as exclusive has no value
        return chosen | {"additional_parameters": {"requeue": True, "signal": f"USR1@{warning}", **further}}

    def _live(self) -> dict[str, str] | None:
        """Return the jobs of this folder that wait or run, each with its task; None where SLURM does not answer."""
        done = _call("squeue", "-h", "-r", "-t", "all", "-u", str(os.getuid()), "-o", "%i %T %j")
        if done.returncode:
            print(f"warning: {_last_words(done.stderr)}", file=sys.stderr)
            return None
        live = {}
        for job, state, label in (line.split(maxsplit=2) for line in done.stdout.splitlines()):
            if state not in ENDED and (names := self._tasks_of(label)):
                live[job] = names[int(job.partition("_")[2] or 0)]
        return live

    def _certainly_live(self) -> dict[str, str]:
        """Wait for SLURM to answer, and return the same; raise MachineFault where it does not within RESTART."""
        deadline = time.monotonic() + RESTART
        while (live := self._live()) is None:
            if time.monotonic() >= deadline:
                raise MachineFault("SLURM does not answer; its jobs go on, and so does the same command")
            time.sleep(LOOK_EVERY)
        return live

    def _tasks_of(self, label: str) -> list[str]:
        """Return the tasks of the array of this name; none where it is not of this folder."""
        if label not in self.arrays:
            path = self.folder / f"{label}.json"
            self.arrays[label] = json.loads(path.read_text()) if path.exists() else []
        return self.arrays[label]

    def _result(self, job: str) -> tuple[bool, int | None]:
        """Return whether the job has come to its own end, and its exit status, None where it could not begin."""
        path = self.submitit.core.utils.JobPaths(self.folder, job).result_pickle
        if not path.exists():
            return False, None
        outcome, value = self.submitit.core.utils.pickle_load(path)
        return True, value if outcome == "success" else None


def attend(task: Task, cpus: int) -> int:
    """Run the task's process in a job and return its exit status.

    Do not return where SLURM stops the job: queue it again, unless SLURM does so itself or was asked to cancel it.
    """
    received: list[int] = []
    process: subprocess.Popen | None = None

    def pass_on(number: int, frame) -> None:
        received.append(number)
        if process is not None:
            process.terminate()

    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    process = start_process(task, {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cpus))})
    if received:  # before there was a process
        process.terminate()
    status = process.wait()
    if status == STOPPED or status < 0:
        time.sleep(1)  # SLURM may have signalled the process first, and this one is about to hear of it
        if received and signal.SIGHUP not in received:
            _go_on_later()
    return status


def _go_on_later() -> None:
    """Queue this job again and end it without a result."""
    import submitit

    job = submitit.JobEnvironment().job_id  # not SLURM_JOB_ID: the last of an array has the id of the whole array
    if _call("squeue", "-h", "-j", job, "-o", "%T").stdout.strip() == "RUNNING":
        requeued = _call("scontrol", "requeue", job)
        print(f"requeue of {job}: {requeued.stderr.strip() or 'done'}", flush=True)
    sys.exit(STOPPED)  # and no result


def _by_gpus(tasks: Sequence[Task]) -> list[list[Task]]:
    """Return the tasks in groups of equal numbers of GPUs, as all jobs of an array ask for the same."""
    return [[task for task in tasks if task.gpus == gpus] for gpus in sorted({task.gpus for task in tasks})]


def _largest_array() -> int:
    """Return the largest number of jobs in one array of this cluster; raise RequestError where it does not answer."""
    shown = _call("scontrol", "show", "config")
    if shown.returncode:
        raise RequestError("SLURM does not answer: " + _last_words(shown.stderr))
    values = dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)
    return max(1, int({key.strip(): value for key, value in values.items()}.get("MaxArraySize", "1001")) - 1)


def _has_gpus(partition: str | None) -> bool:
    """Return whether a node of the partition, or of the cluster, has GPUs."""
    return "gpu" in _call("sinfo", "-h", "-o", "%G", *(["-p", partition] if partition else [])).stdout


def _call(*command: str) -> subprocess.CompletedProcess:
    """Run a command in a session of its own, so that Ctrl-C in a terminal reaches this process alone."""
    alone = {"stdin": subprocess.DEVNULL, "start_new_session": True}
    try:
        return subprocess.run(command, **alone, capture_output=True, text=True, timeout=ANSWER)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} has not answered in {ANSWER:g} s")


def _last_words(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
