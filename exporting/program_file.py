"""An ExportedProgram of torch.export (.pt2), read back and compared. It needs torch alone, not this repository."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from exporting.recorded import record

if TYPE_CHECKING:
    from exporting.export import Export

TOLERANCE = 1e-4  # of the largest logit, or of 1
DESCRIBED = "swapconv.json"  # in the file, what the metadata of other formats say


def write(export: Export, path: Path) -> None:
    """Write the program to a file, read it back and check it. Raise RequestError where torch.export does not record it."""
    program = record(export.exported)
    described = json.dumps(export.described())
    with warnings.catch_warnings(action="ignore"):
        contents = io.BytesIO()  # torch aborts the process where a file cannot be written
        torch.export.save(program, contents, extra_files={DESCRIBED: described})
        path.write_bytes(contents.getbuffer())
        with path.open("rb") as file:
            program = torch.export.load(file, extra_files={DESCRIBED: ""}).module()
    export.compare("the program that was read back", program, TOLERANCE)
