"""Run tasks on a Ray cluster: one that runs already, or one of this machine alone that ends with the launcher.

    launcher = build("ray", options)                       # options.address: of the cluster, or None

A job is a Ray task that asks for CPUs and GPUs. Ray itself retries nothing: `ended` reports a task whose worker or node
is lost, and the queue hands it over again. All nodes have to see the folder of the runs under one path.
"""

import logging
import math
import os
import time
from collections.abc import Sequence

from record import outcome
from schedules import launchers
from schedules.launchers import Task, process
from system import configuration, errors, files, processes, threads
from system.configuration import Configuration
from system.errors import MachineFault, RequestError, first_line

PULSE = 0.2  # seconds between two questions to the cluster
PASSED_ON = ("DATA_DIR", "XDG_CACHE_HOME", "OMP_NUM_THREADS", *threads.WAITING)  # of this process's environment

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # at 0, Ray does not replace the address 127.0.0.1
# All modules of ours that process.attend needs; they travel with it, so that a node has nothing to import but main.py.
CARRIED = (launchers, configuration, errors, files, outcome, processes)


class Ray:
    """Launcher of Ray tasks, on every node of the cluster."""

    def __init__(self, options: Configuration):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if (options.address or "").startswith(("127.", "localhost")):
            os.environ[LOOPBACK] = "0"
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
            from ray import cloudpickle
        except ImportError as error:
            raise RequestError(
                f"--launcher ray needs the package ray ({error}): pip install -r requirements-clusters.txt"
            )
        self.ray, self.slots, self.cpus = ray, options.slots, options.job_cpus
        self._connect(options)
        cpus, self.most_gpus = (
            max((node["Resources"].get(kind, 0) for node in ray.nodes() if node["Alive"]), default=0)
            for kind in ("CPU", "GPU")
        )
        self.has_gpus = self.most_gpus >= 1 and options.job_gpus != 0
        if cpus < self.cpus:
            raise RequestError(f"--job_cpus {self.cpus}: the largest node of the cluster has {cpus:g} CPUs")
        for module in CARRIED:
            cloudpickle.register_pickle_by_value(module)
        self.attend = ray.remote(max_retries=0)(_attend)
        self.running: dict = {}
        self.asked = 0.0

    def _connect(self, options: Configuration) -> None:
        """Connect to the cluster that is asked for, else one that runs here, else start one."""
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
        try:
            self.ray.init(address=options.address or "auto", **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            if options.address or os.environ.get("RAY_ADDRESS"):
                where = options.address or os.environ["RAY_ADDRESS"]
                raise MachineFault(f"there is no Ray cluster at {where!r}: {first_line(error)}")
            cpus = {"num_cpus": options.slots * options.job_cpus} if options.slots else {}
            self.ray.init(address="local", _node_ip_address="127.0.0.1", include_dashboard=False, **cpus, **quiet)

    def about(self) -> str:
        """Return the nodes, CPUs and GPUs of the cluster in words."""
        resources, nodes = self.ray.cluster_resources(), [node for node in self.ray.nodes() if node["Alive"]]
        gpus = f", {resources['GPU']:g} GPUs" if self.has_gpus else ""
        return f"{len(nodes)} Ray node{'s' * (len(nodes) > 1)} with {resources.get('CPU', 0):g} CPUs{gpus}"

    def room(self) -> float:
        """Return how many more tasks --slots allows; infinite without it."""
        return self.slots - len(self.running) if self.slots else math.inf

    def start(self, tasks: Sequence[Task]) -> None:
        """Hand tasks to the cluster."""
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        for task in tasks:
            asks = self.attend.options(num_cpus=self.cpus, num_gpus=task.gpus, name=task.name)
            self.running[asks.remote(task, os.getcwd(), environment)] = task.name

    def ended(self) -> list[tuple[str, int | None]]:
        """Return the tasks that have ended since the last call; raise MachineFault where a node cannot run any."""
        if not self.running or time.monotonic() - self.asked < PULSE:
            return []
        self.asked = time.monotonic()
        over, _ = self.ray.wait(list(self.running), num_returns=len(self.running), timeout=0)
        return [(self.running.pop(each), self._status(each)) for each in over]

    def _status(self, task) -> int | None:
        try:
            return self.ray.get(task)
        except self.ray.exceptions.TaskCancelledError:
            return 143
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, KeyboardInterrupt):
                return 143
            raise MachineFault(f"a node of the cluster cannot run jobs: {first_line(error.cause)}")
        except self.ray.exceptions.RayError:  # its worker, its node, or what it returned is lost
            return None

    def stop(self) -> None:
        """Cancel all tasks, at which attend sends SIGTERM to their processes, and wait for their ends."""
        for task in self.running:
            self.ray.cancel(task)
        self.ray.wait(list(self.running), num_returns=len(self.running)) if self.running else None
        self.asked = 0.0


def _attend(task: Task, folder: str, environment: dict[str, str]) -> int:
    os.chdir(folder)
    return process.attend(task, environment)
