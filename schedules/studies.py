"""The studies by name: each is one entry with its network and its settings.

    STUDIES["wrn_28_10"].flags, STUDIES["wrn_28_10"].convs

Most are one teacher and, for each conv, a student of it and the same network trained alone: the settings are those whose
counts or results are published for that network (arXiv 1906.00859 and its research log). Those of sparsity and of gating
have no teacher: each of their networks is trained as it is, then once with each of their settings. The sweeps train their
networks alone, with each conv and each combination of what varies. study_files.py reads studies from files.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from training.registry import GATES_ALONE

Flags = str | tuple[str, ...]  # of a command line: a text is cut at its spaces, words may hold some


@dataclass(frozen=True)
class Study:
    """A study: its dataset, main.py's flags for every job, and what is compared.

    convs: what replaces the network's own convolutions, for students and alone; control: flags of the network at another
    width, the control that every compression has to beat. settings: flags by their name in the names of runs, of networks
    trained alone; networks: flags by name too, of all networks that are trained with each setting; after: by the name of a
    setting that starts from a trained network, which one: that of the setting of this name, or of DENSE.

    budgets, budgets_mult_adds: instead of convs, what each of `families` (empty: all) meets, as the flags of
    schedules.generate say. grid: what varies beside the conv, by key: of each of its values the flags, by their name in the names of runs; every
    combination is trained. template: the names of the combinations, `{conv}.{lr}`; without one, of all that varies. teacher:
    the flags of the teacher where they are not `flags`; taught_by: a trained network that teaches instead; only: `taught`
    for students alone, `alone` for networks without a teacher.
    """

    title: str
    dataset: str
    flags: Flags
    convs: tuple[str | None, ...] = ()
    control: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    networks: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    budgets: tuple[int, ...] = ()
    budgets_mult_adds: tuple[int, ...] = ()
    families: tuple[str, ...] = ()
    grid: dict[str, dict[str, Flags]] = field(default_factory=dict)
    template: str = ""
    template_at: str = ""  # where a file gives it, for messages
    teacher: Flags | None = None
    taught_by: str = ""
    only: str | None = None

    @property
    def has_teacher(self) -> bool:
        """Whether a teacher teaches its students."""
        return not self.settings and self.only != "alone"


def words_of(flags: Flags) -> list[str]:
    """Return flags as the words of a command line."""
    return flags.split() if isinstance(flags, str) else [*flags]


DENSE = "dense"  # the name of a network as it is, in a study without a teacher
CIFAR = {"resnet50": "--network CifarResNet50", "vgg16": "--network VGG16", "mobilenetv1": "--network MobileNetV1"}
SMALL = {"wrn_10_1": "--wrn_depth 10 --wrn_width 1"}
VARIATIONAL = {"sparsevd": "--conv SparseVD", "groupvd": "--conv GroupVD"}
VARIATIONAL_FAST = {"sparsevd": "--conv SparseVD --lr 3e-3 --kl_weight 0.1", "groupvd": "--conv GroupVD --lr 1e-2"}

DENSITIES = (0.95, 0.9, 0.75, 0.5)


def _of_goals(*shares: float) -> dict[str, str]:
    return {f"topk_{share}": f"--prune TopK_{share}" for share in shares}


def _of_decays(*decays: str) -> dict[str, str]:
    return {f"decay_{decay}": f"--prune Magnitude_0.02 --weight_decay {decay}" for decay in decays}


def _of_l1(*weights: str) -> dict[str, str]:
    """Return the settings of weights of the L1 norm, each with weight decay and without."""
    with_decay = {f"l1_{weight}": f"--l1 {weight}" for weight in weights}
    return with_decay | {f"{name}.no_decay": f"{flags} --weight_decay 0" for name, flags in with_decay.items()}


def _of_gates(
    of_all: str,
    frozen: str,
    warmup: float,
    where: dict[str, str] | None = None,
    densities: tuple[float, ...] = DENSITIES,
) -> dict[str, str]:
    """Return the settings of the recipe at some densities, for each of the choices of convolutions in `where`, by name.

    A gate of Naive first learns alone, by the flags `frozen`, then with the network; one of FBS while the density falls from 1.
    `of_all` are flags of all of them, and of the control, the network that trains as much longer without gates.
    """
    settings = {"longer": of_all}
    for name, regex in (where or {"": ""}).items():
        chosen = f"{of_all} --gate_where {regex}" if regex else of_all
        for density in densities:
            ending = f"{density}.{name}" if name else f"{density}"
            settings[f"naive_{ending}.frozen"] = f"--gate Naive_{density} {chosen} --train_where {GATES_ALONE} {frozen}"
            settings[f"naive_{ending}"] = f"--gate Naive_{density} {chosen}"
            settings[f"fbs_{ending}"] = f"--gate FBS_{density} {chosen} --gate_warmup {warmup:g}"
    return settings


def _lineage(settings: dict[str, str]) -> dict[str, str]:
    """Return where settings of the recipe start: after that of the gates alone if there is one, else from the dense network."""
    return {name: f"{name}.frozen" if f"{name}.frozen" in settings else DENSE for name in settings}


RECIPE = _of_gates("--lr 0.05", "--gate_weight 1 --epochs 20", warmup=60)
RECIPE_FAST = _of_gates("--lr 0.05", "--gate_weight 1 --epochs 4", warmup=1, densities=(0.9, 0.75, 0.5))
RECIPE_SQUEEZENET = _of_gates(
    "--lr 5e-3", "--gate_weight 1 --epochs 10", 30,
    {"fire6_9": r"features\.(9|1[0-2])\.expand", "fire9": r"features\.12\.expand", "all": r"features\.0$|expand"},
)  # fmt: skip
RECIPE_MOBILENETV1 = _of_gates(
    "--lr 0.025", "--gate_weight 1 --epochs 10", 50,
    {"pointwise9_13": r"layers\.([89]|1[0-2])\.conv2", "all": "^conv1$|conv2"},
)  # fmt: skip
# The study of ranks and dimensions: shares of the full ranks, d factors of the channels.
TENSORS = (
    *(f"TensorTrain_{share / 20:g}_{d}" for d in (2, 3, 4) for share in range(1, 20)),
    *(f"Tucker_{share / 10:g}_{d}" for d in range(2, 10) for share in range(1, 10)),
)
TENSORS_FAST = tuple(
    f"{family}_{share}_{d}" for family in ("TensorTrain", "Tucker") for d in (2, 3) for share in (0.2, 0.8)
)
COSINE_128 = "--network ResNet9 --schedule cosine --lr 0.2 --epochs 128"
WHOLE_RATE = "--structured_lr 1"  # the same of all dimensions, as that study had it
DECAY = {"decay": {"scaled": "", "unscaled": "--nocrswd"}}


def _of_scales(scales: Iterable[int], channels: tuple[int, ...]) -> tuple[str, ...]:
    """Return Generic with a scale-th of the channels as rank for each scale, by the shortest and least share that gives it.

    `channels`: those of the layers, of each the larger of its two numbers. A share has three digits behind the point, or
    more where no such share gives every layer its rank. Two scales that give the same ranks have different shares.
    """
    found: dict[int, float] = {}
    for scale in sorted(scales, reverse=True):
        near = (
            whole / 10**digits
            for digits in range(3, 9)
            for whole in range(10**digits // scale, 10**digits // scale + 3)
        )
        ranks = [each // scale for each in channels]
        right = (share for share in near if [int(share * each) for each in channels] == ranks)
        found[scale] = next(share for share in right if share not in found.values())
    return tuple(f"Generic_{found[scale]:g}" for scale in scales)


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
    "resnet9_ranks": Study(
        "TensorTrain and Tucker of ResNet-9 at all ranks and dimensions, 128 epochs of CIFAR-10", "cifar10",
        f"{COSINE_128} {WHOLE_RATE}", TENSORS, only="alone",
    ),
    "resnet9_weight_decay": Study(
        "Generic of ResNet-9 at 30 ranks, its weight decay scaled or not, 128 epochs of CIFAR-10", "cifar10", COSINE_128,
        _of_scales(range(2, 32), (128, 256, 512)), grid=DECAY, template="{conv}.{decay}", only="alone",
    ),
    "resnet9_ranks_digits": Study(
        "the same of a WRN-10-1 on digits, at two shares: a minute", "digits",
        f"{SMALL['wrn_10_1']} --epochs 8 {WHOLE_RATE}", TENSORS_FAST, only="alone",
    ),
    "resnet9_weight_decay_digits": Study(
        "the same of a WRN-10-1 on digits, at two ranks: a minute", "digits", f"{SMALL['wrn_10_1']} --epochs 8",
        _of_scales((2, 8), (16, 32, 64)), grid=DECAY, template="{conv}.{decay}", only="alone",
    ),
    "exact_sparsity": Study(
        "TopK at four goals, three networks on CIFAR-10", "cifar10", "",
        settings=_of_goals(0.05, 0.01, 0.005, 0.001), networks=CIFAR,
    ),
    "threshold": Study(
        "weights under 0.02 pruned, at four weight decays, CIFAR-ResNet-50 on CIFAR-10", "cifar10", "",
        settings=_of_decays("5e-5", "5e-4", "1e-3", "5e-3"), networks={"resnet50": CIFAR["resnet50"]},
    ),
    "l1_pareto": Study(
        "L1 norm from 1e-6 to 1e-4 with and without weight decay, three networks on CIFAR-10", "cifar10", "",
        settings=_of_l1("1e-6", "3e-6", "1e-5", "3e-5", "1e-4"), networks=CIFAR,
    ),
    "variational": Study(
        "SparseVD and GroupVD, three networks on CIFAR-10", "cifar10", "--optimizer adam --lr 1e-3",
        settings=VARIATIONAL, networks=CIFAR,
    ),
    "variational_digits": Study(
        "the same of a WRN-10-1 on digits, by faster steps and with a lighter divergence: minutes", "digits",
        "--epochs 8 --batch_size 16 --optimizer adam", settings=VARIATIONAL_FAST, networks=SMALL,
    ),
    "exact_sparsity_digits": Study(
        "the same of a WRN-10-1 on digits, at goals from 0.5 to 0.01: minutes", "digits", "--epochs 8",
        settings=_of_goals(0.5, 0.2, 0.1, 0.05, 0.02, 0.01), networks=SMALL,
    ),
    "threshold_digits": Study(
        "the same of a WRN-10-1 on digits, at decays up to 0.05: minutes", "digits", "--epochs 8",
        settings=_of_decays("5e-4", "5e-3", "2e-2", "5e-2"), networks=SMALL,
    ),
    "l1_pareto_digits": Study(
        "the same of a WRN-10-1 on digits, from 3e-3 to 0.1: minutes", "digits", "--epochs 8",
        settings=_of_l1("3e-3", "1e-2", "3e-2", "1e-1"), networks=SMALL,
    ),
    "gating_recipe": Study(
        "gates of MCifarNet on CIFAR-10 at four densities, by the recipe of the logs", "cifar10", "",
        settings=RECIPE, networks={"mcifarnet": "--network MCifarNet"}, after=_lineage(RECIPE),
    ),
    "gating_recipe_squeezenet": Study(
        "the same of SqueezeNet on ImageNet, in three choices of convolutions", "imagenet", "",
        settings=RECIPE_SQUEEZENET, networks={"squeezenet": "--network SqueezeNet"}, after=_lineage(RECIPE_SQUEEZENET),
    ),
    "gating_recipe_mobilenetv1": Study(
        "the same of MobileNetV1 on ImageNet, in two choices of convolutions", "imagenet", "",
        settings=RECIPE_MOBILENETV1, networks={"mobilenetv1": "--network MobileNetV1"},
        after=_lineage(RECIPE_MOBILENETV1),
    ),
    "gating_recipe_digits": Study(
        "the same of AllConv on digits, at three densities: minutes", "digits", "--epochs 8",
        settings=RECIPE_FAST, networks={"allconv": "--network AllConv"}, after=_lineage(RECIPE_FAST),
    ),
}  # fmt: skip
