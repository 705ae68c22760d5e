"""What every test starts from."""

import os
import signal

import pytest
from kept_digits import kept_digits
from small_runs import TINY

from input import places
from system import threads
from system.signals import on_signal


def pytest_collection_finish() -> None:
    """Compute on one thread, as the processes that bit-exact comparisons start. Here only where tests run is torch imported."""
    import torch

    torch.set_num_threads(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config) -> int:
    """One more than there are CPUs, unless the user says: many tests wait for processes that they have started."""
    return int(os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") or threads.cpus() + 1)


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same numbers, alone or among others, and hears signals as Python does."""
    import torch

    torch.manual_seed(0)
    yield
    on_signal(signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def digits_are_read_once():
    """Enlarging them takes as long as a short run trains on them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "digits", kept_digits())
        yield


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder as the current one, without a DATA_DIR."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_DIR", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    """A folder in which a tiny teacher `t` has been trained on digits. Copy it before writing there."""
    import main

    folder = tmp_path_factory.mktemp("teacher")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main.main(["digits", "teacher", "-t", "t", *TINY]) == 0
    return folder
