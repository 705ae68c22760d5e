"""A graph of ONNX: written by torch's own exporter, checked by ONNX's checker, and by onnxruntime against torch.

Constants are folded where that makes nothing larger: what is formed from parameters stays formed in the graph, so that the
file holds the parameters of a structured map, not its matrix. onnxruntime folds all of it when it loads the file.
"""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from exporting.recorded import Exported, record
from system.errors import RequestError, first_line

if TYPE_CHECKING:
    from exporting.export import Export

LARGEST = (1 << 31) - (1 << 20)  # bytes of a file of protobuf, less what the graph itself takes
FOLDED = 64  # numbers of a stored tensor, up to which what is computed from it is folded
TOLERANCE = 1e-4  # of the largest logit, or of 1


def write(export: Export, path: Path) -> None:
    """Write the graph to a file and check it. Raise RequestError where there is an operator that ONNX lacks."""
    import onnx

    exported = export.exported
    if sum(tensor.nbytes for tensor in exported.state_dict().values()) > LARGEST:
        raise RequestError(
            "its parameters take more than 2 GB, which a file of ONNX cannot hold: --to torch or safetensors can"
        )
    opset, newest = export.request.opset, onnx.defs.onnx_opset_version()
    if opset > newest:
        raise RequestError(f"--opset {opset}: the ONNX that is installed knows up to {newest}")
    model = _model(exported, opset)
    onnx.helper.set_model_props(model, export.described())
    path.write_bytes(model.SerializeToString())
    _check(path, opset)
    export.compare("onnxruntime", _runner(path), TOLERANCE)


def _model(exported: Exported, opset: int):
    """Return the graph as ONNX's own object."""
    from onnxscript import optimizer

    program = record(exported)
    with warnings.catch_warnings(action="ignore"), _silent():
        try:
            made = torch.onnx.export(
                program, dynamo=True, input_names=["images"], output_names=["logits"], opset_version=opset,
                dynamic_shapes={"images": {0: "batch"}}, optimize=False, external_data=False, verbose=False,
            )  # fmt: skip
            _forget_python(made.model.graph)
            optimizer.optimize_ir(made.model, output_size_limit=FOLDED, should_fold=_folds)
            return made.model_proto
        except Exception as error:  # of torch's exporter or of onnxscript
            raise RequestError(f"ONNX cannot hold it ({_reason(error)}): --to torch may hold it, or --dense")


def _forget_python(graph) -> None:
    """Remove what the exporter notes of the lines of Python that a graph comes from, which name files of this machine."""
    values = [*graph.inputs, *graph.initializers.values()]
    for node in graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        values += node.outputs
    for value in values:
        value.metadata_props.clear()


def _folds(node) -> bool | None:
    """Return False for what is computed from a large stored tensor, None for what the optimizer is to decide itself."""
    stored = (value.const_value for value in node.inputs if value is not None and value.is_initializer())
    return False if any(tensor is not None and tensor.size > FOLDED for tensor in stored) else None


def _reason(error: Exception) -> str:
    """Return the operator that is missing, or the first line of what is said."""
    chain, each = [], error
    while each is not None:
        chain, each = [*chain, str(each)], each.__cause__
    found = re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", "\n".join(chain))
    return f"it has no operator for {found[1]}" if found else first_line(error)


class _silent:
    """Within it torch's exporter logs nothing: it speaks to those who call it."""

    LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")

    def __enter__(self) -> None:
        self.levels = [logging.getLogger(name).level for name in self.LOGGERS]
        for name in self.LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)

    def __exit__(self, *_) -> None:
        for name, level in zip(self.LOGGERS, self.levels):
            logging.getLogger(name).setLevel(level)


def _check(path: Path, opset: int) -> None:
    """Let ONNX check the file. Raise RequestError where it is not well-formed, or has other operators than were asked for."""
    import onnx

    try:
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # of onnx, in classes of its own
        raise RequestError(f"ONNX's checker refuses the graph ({first_line(error)})")
    has = next(each.version for each in model.opset_import if each.domain == "")
    if has != opset:
        raise RequestError(f"--opset {opset}: the graph cannot be converted to it from {has}, give --opset {has}")


def _runner(path: Path):
    """Return a function from images to logits that onnxruntime computes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = (
        torch.get_num_threads(),
        1,
        3,
    )
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of onnxruntime, in classes of its own
        raise RequestError(f"onnxruntime does not take the graph ({first_line(error)})")
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])
