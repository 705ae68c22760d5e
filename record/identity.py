"""What makes a run the same run: its configuration, less what does not change the result. Imports no torch."""

from input import facts
from input.datasets import is_own
from system import user_code

# What does not change the result, so is not part of a run's identity.
NOT_IDENTITY = (
    "workers",
    "device",
    "GPU",
    "print_freq",
    "data_dir",
    "download",
    "imagenet_loc",
    "val_labels",
    "labelled",  # weights.classes.check_labels compares what labels mean
    "labelled_classes",
    "resume",
    "dry_run",
    "evaluate",
    "gate_skip",
    "json",
    "checkpoint_every",
    "test_every",
    "reestimate_bn",
    "until",
    "latency",
    "checkpoint_activations",
    "cache_teacher",
    "budget",
    "budget_mult_adds",
    "allocate",
    "data_folder",  # the path; digests identify what lies there
    "data_resize",
    "data_mean",
    "data_std",
)

CONTENTS = {
    "teacher_digest": "the digest of the teacher's weights",
    "init_digest": "the digest of the weights of --init_from",
    "module_digest": "the digest of --module's file",
    "network_digest": "the digest of --network's file",
    "loss_digest": "the digest of --loss's file",
}

ORIGINS = {
    "teacher_checkpoint": "teacher_digest",
    "init_from": "init_digest",
}  # flags whose value is a name of weights, which their digest identifies


def dataset_key(dataset: str, digest: str | None) -> str:
    """Return what a dataset is compared by, beside its digest: its name, or "" for a folder of images with a digest.

    Such a folder holds what its digest says, under whatever name.
    """
    return "" if digest and is_own(dataset) else dataset


def _may_be_one_folder(before: dict, now: dict) -> bool:
    """Return whether both datasets are folders of images, and no recorded digest tells them apart."""
    known = [each["data_digest"] for each in (before, now) if each.get("data_digest")]
    return all(is_own(each.get("dataset") or "") for each in (before, now)) and (len(known) < 2 or known[0] == known[1])


def _is_one_class(flag: str, before: dict, now: dict) -> bool:
    """Return whether a flag names a class of a user's file in both, by whatever paths, and the files hold the same."""
    digest, values = f"{flag}_digest", (before.get(flag), now.get(flag))
    same_file = before.get(digest) and before.get(digest) == now.get(digest)
    return bool(same_file and all(values)) and user_code.is_same(*values)


def differences(before: dict, now: dict) -> list[str]:
    """Say what tells two configurations apart, in words.

    A flag that one of them does not know yet is taken as off. The same weights by another name or path are the same, and so are
    the same folder of images and the same user's file by another name. What one of them does not say of its data is no difference.
    """
    keys = [key for key in {**before, **now} if key not in (*NOT_IDENTITY, *facts.KEYS)]
    alike = [name for name, digest in ORIGINS.items() if before.get(digest) and before.get(digest) == now.get(digest)]
    alike += [flag for flag in user_code.FLAGS if _is_one_class(flag, before, now)]
    alike += ["dataset"] if _may_be_one_folder(before, now) else []
    off = {key: None for key in keys if not (before.get(key) or now.get(key))}
    before, now = ({**configuration, **off} for configuration in (before, now))
    different = [key for key in keys if before.get(key) != now.get(key) and key not in alike]
    was, now_is = ({key: shown(key, of.get(key)) for key in different} for of in (before, now))
    listed = [f"{CONTENTS.get(key, key)} was {was[key]}, is {now_is[key]}" for key in different]
    if different == ["structured_lr"] and (before.get(*different), now.get(*different)) == (None, "shared"):
        listed[0] += " by its preset; --structured_lr 1 goes on with it"  # begun before there was this preset
    return listed + facts.differences(before, now)


def shown(key: str, value: object) -> object:
    """Return a value of a configuration as a message shows it; of the widths of a shrunk network there may be hundreds."""
    if key == "widths" and value:
        layers = value.split()
        return f"{layers[0]} and those of {len(layers) - 1} other layers" if len(layers) > 1 else layers[0]
    if key == "structured_lr" and value is None:
        return 1
    return "not given" if value is None else value


def is_allocated(config: dict) -> bool:
    """Return whether --allocate has found the numbers of a configuration: then it holds the conv that was asked for."""
    return isinstance(config.get("allocate"), str)


def open_conv(config: dict) -> str:
    """Return the conv whose numbers --allocate finds, or has found."""
    return config["allocate"] if is_allocated(config) else config["conv"]


def asked(config: dict) -> str | None:
    """Return a run's conv as it was asked for, which is equal for all seeds; --allocate finds other numbers for each."""
    if config.get("allocate"):
        return f"{open_conv(config)} allocated at {config.get('budget')}"
    return config.get("conv")


def name_of(config: dict) -> str | None:
    """Return the name of the run that a configuration is of."""
    return config.get("student_checkpoint" if config.get("mode") == "student" else "teacher_checkpoint")
