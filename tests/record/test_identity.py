"""What makes a run the same run: other data are another one."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from results import saved, snapshot

import main
from record import checkpoint
from system.errors import RequestError


def test_other_data_are_another_run(workplace, capsys):
    """What a resume finds in the place of the images that it began with; a record of before this says nothing of them."""
    from samples import tree, write_folder

    command = ["cifar10", "teacher", "-t", "t", "--wrn_depth", "10", "--wrn_width", "1", "--epochs", "1"]
    write_folder(workplace / "data/cifar10", tree())
    assert main.main(command) == 0
    assert (
        "20 of CIFAR-10's 50,000 training images, 20 of CIFAR-10's 10,000 test images, 10 classes"
        in capsys.readouterr().out
    )
    config = saved(workplace, "t")["config"]
    assert (config["data_classes"], config["data_train"], config["data_test"]) == (10, 20, 20)
    shutil.copytree("data", "elsewhere")
    assert main.main([*command, "--resume", "--data_dir", "elsewhere"]) == 0  # where they lie is no part of it
    write_folder(workplace / "others/cifar10", tree(per_class=3))
    before = snapshot(workplace)
    with pytest.raises(
        RequestError, match=r"\(20 training images then, 30 now; 20 test images then, 30 now; other images"
    ):
        main.main([*command, "--resume", "--data_dir", "others"])
    assert snapshot(workplace) == before
    with pytest.raises(RequestError, match="train_size was not given, is 19"):
        main.main([*command, "--resume", "--train_size", "19"])
    without = {key: value for key, value in config.items() if not key.startswith("data_") and key != "train_size"}
    old = torch.load("checkpoints/t.pt", weights_only=True) | {"config": without}
    checkpoint.save(Path("checkpoints/t.pt"), old)
    capsys.readouterr()
    student = ["cifar10", "student", "-t", "t", "-s", "s", *command[4:], "--dry_run", "--json"]
    assert main.main(student) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) and "the record of the teacher 't' does not say on which data it was trained" in err
    checkpoint.save(Path("checkpoints/t.pt"), old | {"epoch": 0, "rows": []})
    assert main.main([*command, "--resume", "--data_dir", "others"]) == 0
    assert "the record of the run 't' does not say on which data it was begun" in capsys.readouterr().out
    assert json.loads(Path("runs/t/config.json").read_text())["config"]["data_train"] == 30
