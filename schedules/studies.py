"""The studies by name: each is one entry with its network and its settings.

    STUDIES["wrn_28_10"].flags, STUDIES["wrn_28_10"].convs

A study is one teacher and, for each setting, a student of it and the same network trained alone. The settings are those
whose counts or results are published for that network (arXiv 1906.00859 and its research log).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Study:
    """A study: its dataset, main.py's flags for the network, and the convs that replace the network's own.

    control: flags of the network at another width, the control that every compression has to beat.
    """

    title: str
    dataset: str
    flags: str
    convs: tuple[str, ...]
    control: str = ""


STUDIES = {
    "wrn_28_10": Study(
        "WRN-28-10 on CIFAR-10",
        "cifar10",
        "--network WideResNet --wrn_depth 28 --wrn_width 10",
        (
            "Sep", "Generic_0.06", "Generic_0.1", "Generic_0.12", "Generic_0.24", "LR_0.24",
            "Hashed_0.01", "Hashed_0.1", "HashedDecimate", "SepHashed_0.1", "SepHashed_0.5",
            "SepHashedFull_0.1", "SepHashedDecimate", "ACDC", "ACDC_15", "ACDC_48", "PermutedACDC",
            "TensorTrain_0.26", "TensorTrain_0.44", "TensorTrain_0.7", "TensorTrain_0.8",
            "TensorTrain_0.8_4", "Tucker_0.21", "Tucker_0.25", "Tucker_0.54", "Tucker_0.4_4", "CP_0.1",
            "CP_0.5", "Shuffle_2", "Shuffle_3", "Shuffle_4", "Shuffle_8", "Shuffle_16", "Shuffle_32",
        ),
        "--wrn_width 1.18",
    ),
    "darts": Study(
        "DARTS on CIFAR-10",
        "cifar10",
        "--network DARTS",
        (
            "Generic_0.03", "Generic_0.1", "Generic_0.12", "Generic_0.21", "Hashed_0.01", "Hashed_0.1",
            "Hashed_0.5", "SepHashed_0.05", "SepHashedFull_0.1", "SepHashedDecimate", "ACDC_2", "ACDC_6",
            "ACDC", "ACDC_48", "ACDC_64", "OriginalACDC", "TensorTrain_0.26", "TensorTrain_0.27",
            "TensorTrain_0.41", "TensorTrain_0.44", "TensorTrain_0.59", "TensorTrain_0.7",
            "TensorTrain_0.8_4", "Tucker_0.1", "Tucker_0.21", "Tucker_0.24", "Tucker_0.25", "Tucker_0.41",
            "Tucker_0.67", "Tucker_0.73", "CP_0.5", "Shuffle_1", "Shuffle_7", "Shuffle_8", "Shuffle_32",
        ),
    ),
    "wrn_50_2": Study(
        "WRN-50-2 on ImageNet",
        "imagenet",
        "--network WRN_50_2",
        (
            "Sep", "Generic_0.06", "Generic_0.1", "Generic_0.21", "LR_0.1", "LR_0.24", "SepHashed_0.2",
            "SepHashed_0.38", "SepHashed_0.5", "SepHashedFull_0.1", "SepHashedDecimate", "ACDC_2",
            "ACDC_6", "ACDC", "ACDC_15", "ACDC_48", "ACDC_64", "OriginalACDC", "TensorTrain_0.1",
            "TensorTrain_0.27", "TensorTrain_0.7", "TensorTrain_0.8_4", "Tucker_0.25", "Tucker_0.37",
            "Tucker_0.54", "Tucker_0.67", "Tucker_0.73", "Shuffle_1", "Shuffle_7", "Shuffle_8",
        ),
    ),
    "mobilenetv2": Study(
        "MobileNetV2 on ImageNet",
        "imagenet",
        "--network MobileNetV2",
        (
            "Sep", "Generic_0.03", "Hashed_0.01", "Hashed_0.1", "HashedDecimate", "SepHashed_0.08",
            "SepHashed_0.2", "SepHashed_0.5", "SepHashed_0.58", "ACDC_2", "ACDC", "ACDC_28",
            "OriginalACDC", "TensorTrain_0.1", "TensorTrain_0.26", "TensorTrain_0.8", "TensorTrain_0.8_4",
            "Tucker_0.21", "Tucker_0.24", "Tucker_0.37", "Tucker_0.54", "Tucker_0.67", "Tucker_0.4_4",
            "CP_0.1", "CP_0.5", "Shuffle_2", "Shuffle_3", "Shuffle_4", "Shuffle_7",
        ),
        "--width_mult 0.5",
    ),
    "digits": Study(
        "WRN-10-1 on digits: short runs that show a study as a whole",
        "digits",
        "--network WideResNet --wrn_depth 10 --wrn_width 1 --epochs 8",
        ("SepHashed_0.25", "ACDC_4", "Shuffle_4"),
        "--wrn_width 0.5",
    ),
}  # fmt: skip
