"""What TensorBoard compares runs by, read back from their files of events."""

import pytest
from children import Child
from results import hyperparameters, points, rows_of, saved
from small_runs import TINY

from record.hyperparameters import beginning

DIGITS = ["digits", "teacher", "-t", "t", *TINY]


def test_tensorboard_compares_runs(teacher, workplace):
    """Once in the run's only file of events, however often it went on: what it is, its errors, and that it is finished."""
    child = Child(*DIGITS, cwd=workplace, pause=("step", 19))
    assert child.reaches_pause()
    child.kill()
    assert set(hyperparameters(workplace, "t")) == {"_hparams_/experiment", "_hparams_/session_start_info"}
    assert Child(*DIGITS, "--resume", cwd=workplace).wait() == 0
    whole, resumed = hyperparameters(teacher, "t"), hyperparameters(workplace, "t")
    assert whole == resumed and len(whole) == 3
    values = whole["_hparams_/session_start_info"].session_start_info.hparams
    assert (
        values["lr"].number_value == saved(teacher, "t")["config"]["lr"] and values["dataset"].string_value == "digits"
    )
    assert values["params"].number_value > 0 and values["nocrswd"].HasField("bool_value")
    assert not {"teacher_checkpoint", "workers", "data_digest", "beta"} & set(values)
    columns = [each.name for each in whole["_hparams_/experiment"].experiment.hparam_infos]
    assert {"beta", "conv", *values} <= {*columns} and len({*columns}) == len(columns)
    tags = [each.name.tag for each in whole["_hparams_/experiment"].experiment.metric_infos]
    assert tags[:2] == ["test/top1_error", "test/top1_error_best"]  # of the last epoch before that of the best
    last = rows_of(teacher, "t")[-1]
    drawn = {tag: value for tag, step, value in points(teacher, "t") if step == 2}
    for tag, name in zip(tags, ("test_top1_error", "best_test_top1_error")):
        assert drawn[tag] == pytest.approx(last[name])
    assert whole["_hparams_/session_end_info"].session_end_info.status == 1  # STATUS_SUCCESS
    (_, start) = beginning({"init_from": "folder\udcff/a.pt", "cutout": 8}, {})  # bytes of a path that are no UTF-8
    assert b"folder\\udcff/a.pt" in start.SerializeToString()
