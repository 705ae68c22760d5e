"""The formats that networks are exported to, by name. Imports no torch.

FORMATS["onnx"].suffix                       # ".onnx"
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A format. `target`: "module:function", which writes and checks a file of it, (export, path of the unfinished file).

    suffix:   how its files are called.
    packages: what it needs, by the names under which they are imported; requirements.txt names them.
    holds:    whether its files hold a graph that other programs run, or the weights alone.
    """

    target: str
    suffix: str
    packages: tuple[str, ...] = ()
    is_graph: bool = True


FORMATS = {
    "onnx": Format("exporting.onnx_file:write", ".onnx", ("onnx", "onnxscript", "onnxruntime")),
    "torch": Format("exporting.program_file:write", ".pt2"),
    "safetensors": Format("exporting.weights_file:write", ".safetensors", ("safetensors",), is_graph=False),
}
LEAST_OPSET = 18
