"""Check that imports run one way, by import-linter and the layers in .importlinter.

    python tests/imports.py

import-linter reads packages alone, so the modules at the root are laid out as packages in a folder that is thrown away.
"""

import os
import subprocess
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    settings = ConfigParser()
    settings.read(ROOT / ".importlinter")
    with tempfile.TemporaryDirectory() as folder:
        for name in settings["importlinter"]["root_packages"].split():
            package = Path(folder, name)
            if (ROOT / name).is_dir():
                package.symlink_to(ROOT / name)
            else:
                package.mkdir()
                (package / "__init__.py").symlink_to(ROOT / f"{name}.py")
        Path(folder, ".importlinter").symlink_to(ROOT / ".importlinter")
        command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
        return subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": folder}).returncode


if __name__ == "__main__":
    sys.exit(main())
