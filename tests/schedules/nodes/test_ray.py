"""Ray for real: a cluster of several nodes on this machine, bound to 127.0.0.1, one of which is killed in the middle."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from results import rows_of, saved

ROOT = Path(__file__).parents[3]
os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}  # 127.0.0.1 alone
ray = pytest.importorskip("ray", reason="needs the packages of requirements-clusters.txt")
TINY = ["--wrn_depth", "10", "--wrn_width", "0.25"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head without CPUs; every test adds its nodes."""
    from ray.cluster_utils import Cluster

    here = {"node_ip_address": "127.0.0.1", "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **here})
    yield cluster
    cluster.shutdown()


def launcher(cluster, folder: Path, *arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "schedules.run", "study.json", "--launcher", "ray", "--address", cluster.address]
    return subprocess.Popen(
        [*command, *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def write(folder: Path, *jobs: str) -> None:
    import json

    argvs = [["python", "main.py", *job.split(), *TINY] for job in jobs]
    (folder / "study.json").write_text(json.dumps(argvs))


def until(condition, process: subprocess.Popen, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate(timeout=9)[0]
        time.sleep(0.05)


def epochs(folder: Path, name: str) -> int:
    path = folder / f"runs/{name}/metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_study_outlives_a_node_that_is_killed(cluster, tmp_path):
    nodes = [cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1") for _ in range(2)]
    cluster.wait_for_nodes()
    long = "--epochs 8"
    write(
        tmp_path, f"digits teacher -t a {long}", f"digits teacher -t b --seed 1 {long}",
        f"digits student -t a -s c {long}",
    )  # fmt: skip
    process = launcher(cluster, tmp_path)
    until(lambda: epochs(tmp_path, "a") >= 1 and epochs(tmp_path, "b") >= 1, process)
    cluster.remove_node(nodes[1], allow_graceful=False)  # SIGKILL of all its processes
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert "3 of 3 runs are finished" in output
    assert "its worker was lost" in output and "handed to the cluster, after" in output
    for name in "abc":
        assert [row["epoch"] for row in rows_of(tmp_path, name)] == list(range(8))
        assert saved(tmp_path, name)["epoch"] == 8
    cluster.remove_node(nodes[0])


def test_ctrl_c_leaves_checkpoints_and_the_same_command_goes_on(cluster, tmp_path):
    node = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1")
    cluster.wait_for_nodes()
    write(tmp_path, "digits teacher -t a --epochs 15", "digits teacher -t b --epochs 1")
    process = launcher(cluster, tmp_path)
    until(lambda: epochs(tmp_path, "a") >= 1, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "the same command goes on" in output, output
    before = saved(tmp_path, "a")
    assert 1 <= before["epoch"] < 15 and epochs(tmp_path, "b") == 0
    again = launcher(cluster, tmp_path)
    output, _ = again.communicate(timeout=240)
    assert again.returncode == 0, output
    assert f"a handed to the cluster, after {before['epoch']} of 15 epochs" in output
    cluster.remove_node(node)


def test_a_search_is_the_same_on_a_cluster_as_on_this_machine(cluster, tmp_path):
    """Each round's jobs go through the same queue: its table is the same to the bit."""
    node = cluster.add_node(num_cpus=2, node_ip_address="127.0.0.1")
    cluster.wait_for_nodes()
    base = f"digits teacher {' '.join(TINY)} --train_size 64 --val_size 50 --batch_size 32"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    tables = []
    for where, flags in (("here", []), ("there", ["--launcher", "ray", "--address", cluster.address])):
        folder = tmp_path / where
        folder.mkdir()
        (folder / "s.yaml").write_text(
            f"base: {base}\nR: 2\neta: 2\nbrackets: [1]\nspace:\n  lr: {{log_uniform: [0.01, 1]}}\n"
        )
        command = [sys.executable, str(ROOT / "schedules/hyperband.py"), "s.yaml", "--slots", "2", *flags]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        tables.append((folder / "s.brackets-1.csv").read_bytes())
    assert tables[0] == tables[1] and tables[0].count(b"finished") == 3
    cluster.remove_node(node)
