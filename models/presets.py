"""What each network and dataset is trained with unless a flag says otherwise, and which flags are whose. Imports no torch."""

from system.errors import RequestError

# Defaults of the training flags: of each network, then what a dataset changes.
PRESETS: dict[str, dict] = {
    "WideResNet": dict(
        conv="Conv", wrn_depth=40, wrn_width=2.0, AT_split=1, batch_size=128, epochs=200, lr=0.1, schedule="step",
        epoch_step=[60, 120, 160], lr_decay_ratio=0.2, weight_decay=5e-4,
    ),
    "DARTS": dict(
        conv="Sep", batch_size=96, epochs=600, lr=0.025, schedule="cosine", weight_decay=3e-4, clip_grad=5.0,
        drop_path_prob=0.2,
    ),
    "WRN_50_2": dict(
        conv="Conv", batch_size=256, epochs=90, lr=0.1, schedule="step", epoch_step=[30, 60], lr_decay_ratio=0.1,
        weight_decay=1e-4, image_size=224,
    ),
    "MobileNetV2": dict(
        conv="Conv", width_mult=1.0, batch_size=256, epochs=150, lr=0.05, schedule="cosine", weight_decay=4e-5,
        image_size=224,
    ),
}  # fmt: skip
DATASET_PRESETS: dict[str, dict] = {
    "digits": dict(batch_size=64, epochs=30, schedule="cosine"),
    "imagenet": dict(cutout=0),
}
IMAGE_SIDE = {"WideResNet": 32, "DARTS": 32, "WRN_50_2": 224, "MobileNetV2": 224}
# By what flag a network's width is set, and what is a network's own besides the flags that build it.
WIDTHS = {"WideResNet": "wrn_width", "MobileNetV2": "width_mult"}
OWN = {"drop_path_prob": {"DARTS"}, "image_size": {"WRN_50_2", "MobileNetV2"}}
CUTOUT = 16  # pixels, of a 32×32 image: DeVries & Taylor 2017 (1708.04552)


def width_flag(network: str, conv: str) -> str:
    """The flag by which a conv without a number meets a budget. RequestError where the network has none."""
    if network not in WIDTHS:
        raise RequestError(
            f"--conv {conv} has no number to find, and --network {network} no width that could vary instead"
        )
    return WIDTHS[network]
