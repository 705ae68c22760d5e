"""The dataset that a command line names, as batches on the device that trains.

source = find(request)                       # RequestError where it is not there
data = load_data(request, source, device)    # input.memory.Data, or input.photos.loader.Photos
"""

import sys
from dataclasses import replace

import torch

from distributed import launch
from distributed.process_group import ALONE, Ranks
from input import datasets, facts, places
from input.arrays import Images
from input.augment import Augmentation
from input.batches import BatchPlan, Feed, Share
from input.folders import OwnImages
from input.memory import Data
from input.photos.index import Photographs
from input.photos.labels import Labels
from input.photos.loader import Photos
from input.source import Source
from system import threads
from system.configuration import Configuration
from system.errors import RequestError


def find(request: Configuration) -> Source:
    """Return where the dataset lies. Raise RequestError where it does not. Nothing is read yet."""
    if request.data_folder is not None:
        return places.find_own(request)
    return places.find(
        request.dataset,
        datasets.folder_of(request),
        request.download,
        request.imagenet_loc,
        request.evaluate,
        request.val_labels,
    )


def load_data(
    request: Configuration, source: Source, device: torch.device, ranks: Ranks = ALONE
) -> Feed:  # fmt: skip
    """Return this rank's share of every batch. Rank 0 reads before the others, which then find what it has kept."""
    if request.batch_size < ranks.world_size:
        with launch.printed_once():
            raise RequestError(f"--batch_size {request.batch_size}: {ranks.world_size} processes need an image each")
    for turn in (True, False):
        with ranks.all_or_none():
            if ranks.is_first == turn:
                data = _read(request, source, device, Share(ranks.rank, ranks.world_size))
    if len({repr(each) for each in ranks.all_gather(data.facts)}) > 1:
        with launch.printed_once():
            raise RequestError(f"the processes do not find the same {request.dataset} in {source.where}")
    return data


def _read(request: Configuration, source: Source, device: torch.device, share: Share) -> Feed:
    dataset = datasets.of(request)
    dataset = replace(dataset, std=dataset.std_of.get(request.network, dataset.std))
    moves = request.augment != "none"
    augmentation = Augmentation(
        moves, moves and dataset.flip, request.cutout, bool(request.cutout_inside), request.pad == "reflect"
    )
    found = source.read(request.workers or torch.get_num_threads(), keep=not (request.dry_run or request.evaluate))
    measured = {}
    if isinstance(found, OwnImages):
        measured = {"data_mean": list(found.mean), "data_std": list(found.std)}
        dataset = replace(dataset, mean=found.mean, std=found.std)
    if request.evaluate and request.data_mean is not None:  # a trained network is given what it was trained on
        dataset = replace(dataset, mean=tuple(request.data_mean), std=tuple(request.data_std))
    plan = BatchPlan(
        augmentation, request.batch_size, request.seed, device, share, request.val_size, request.train_size
    )  # fmt: skip
    if isinstance(found, Photographs):
        workers = request.workers or max(1, threads.cpus() // launch.local_world_size())
        data = Photos(found, dataset, plan, side=request.image_size, workers=workers)
        data.facts = facts.of_photographs(found)
    else:
        data = Data(found, dataset, plan)
        data.facts = facts.of_images(found) | measured
    data.test_every = 1 if request.test_every is None else request.test_every
    data.reestimate_bn = request.reestimate_bn or 0
    if share.rank == 0:
        for note in _notes(found, source.where):
            print(f"warning: {note}", file=sys.stderr)
    return data


def _notes(found: Images | Photographs, where: str) -> list[str]:
    """Return what a person has to know of what was read."""
    if isinstance(found, Images):
        return list(found.notes)
    splits = {"train": found.train, "val": found.val} if found.train is not found.val else {"val": found.val}
    return list(filter(None, (index.passed.line(f"{where} ({split})") for split, index in splits.items())))


def labels_of(data: Feed) -> Labels | None:
    """Return what the labels of photographs stand for; None for other data, whose classes are always the same."""
    return data.photographs.train.labelling if isinstance(data, Photos) else None
