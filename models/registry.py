"""The networks by name. Importing this needs no torch; a network's own file is read when it is built.

    network = build({"network": "WideResNet", "wrn_depth": 28, "wrn_width": 10.0, "AT_split": 1}, classes=10)

A network is a plain nn.Module that returns `models.output.Output` and lists by dotted name, in `swappable()`, the
convolutions that may be swapped and, in `segments()`, the parts whose activations may be recomputed in the backward
pass. A head that only training uses is its submodule `auxiliary`. It is registered in one line here; its preset stands
in presets.py.
"""

# name: (module:class, {argument of the class: the flag that gives it})
NETWORKS = {
    "WideResNet": ("models.wideresnet:WideResNet", {"depth": "wrn_depth", "width": "wrn_width", "splits": "AT_split"}),
    "DARTS": ("models.darts:DARTS", {}),
    "WRN_50_2": ("models.resnet:WRN_50_2", {}),
    "MobileNetV2": ("models.mobilenetv2:MobileNetV2", {"multiplier": "width_mult"}),
}
