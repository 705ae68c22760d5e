"""`python schedules/run.py …` puts the folder of the script on Python's path, before the standard library."""

import sys
from pathlib import Path

import schedules


def test_no_module_is_named_like_one_of_the_standard_library():
    (folder,) = schedules.__path__
    modules = {path.stem for path in Path(folder).iterdir() if path.suffix == ".py" or path.is_dir()}
    assert "run" in modules and not modules & sys.stdlib_module_names
