"""Read histories of spot prices, as the cloud's own command line prints them, and average the last of each offer.

    aws ec2 describe-spot-price-history --instance-types g5.xlarge g6.xlarge --output json > spot.json

    for offer in offers(read(["spot.json"]), GPUS):
        print(offer.zone, offer.kind, offer.price, offer.per_gpu)

A price is that of an hour of the whole instance. Nothing here asks the network.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean

from system import files
from system.errors import RequestError, first_line

LAST = 7  # prices of an offer that are averaged
KEY = "SpotPriceHistory"
COMMAND = "aws ec2 describe-spot-price-history --output json"
_SMALL = ("xlarge", "2xlarge", "4xlarge", "8xlarge", "16xlarge")
_GPUS = (  # the instance types of a family with so many GPUs each, as the cloud lists them
    ("p2", "K80", {"xlarge": 1, "8xlarge": 8, "16xlarge": 16}),
    ("p3", "V100", {"2xlarge": 1, "8xlarge": 4, "16xlarge": 8}),
    ("p3dn", "V100", {"24xlarge": 8}),
    ("p4d", "A100", {"24xlarge": 8}),
    ("p4de", "A100", {"24xlarge": 8}),
    ("p5", "H100", {"4xlarge": 1, "48xlarge": 8}),
    ("p5e", "H200", {"48xlarge": 8}),
    ("p5en", "H200", {"48xlarge": 8}),
    ("p6-b200", "B200", {"48xlarge": 8}),
    ("g3s", "M60", {"xlarge": 1}),
    ("g3", "M60", {"4xlarge": 1, "8xlarge": 2, "16xlarge": 4}),
    ("g4dn", "T4", {**dict.fromkeys(_SMALL, 1), "12xlarge": 4, "metal": 8}),
    ("g5", "A10G", {**dict.fromkeys(_SMALL, 1), "12xlarge": 4, "24xlarge": 4, "48xlarge": 8}),
    ("g6", "L4", {**dict.fromkeys(_SMALL, 1), "12xlarge": 4, "24xlarge": 4, "48xlarge": 8}),
    ("gr6", "L4", {"4xlarge": 1, "8xlarge": 1}),
    ("g6e", "L40S", {**dict.fromkeys(_SMALL, 1), "12xlarge": 4, "24xlarge": 4, "48xlarge": 8}),
)
GPUS = {f"{family}.{size}": count for family, _, sizes in _GPUS for size, count in sizes.items()}
MODELS = {f"{family}.{size}": model for family, model, sizes in _GPUS for size in sizes}


@dataclass(frozen=True)
class Price:
    """One entry of a history: the price of an hour of an instance type in a zone from a moment on, for a product."""

    zone: str
    kind: str
    product: str
    price: float
    since: datetime


@dataclass(frozen=True)
class Offer:
    """An instance type in a zone, with the mean of its last prices, the number of these, and the moment of the last.

    gpus: of one instance; None where nobody knows it.
    """

    zone: str
    kind: str
    product: str
    price: float
    prices: int
    latest: datetime
    gpus: int | None

    @property
    def per_gpu(self) -> float | None:
        """The price of an hour of one GPU."""
        return self.price / self.gpus if self.gpus else None


def read(paths: Sequence[str]) -> list[Price]:
    """Return the prices of all files, each once. Raise RequestError for a file that is no history, or has a wrong entry."""
    found: dict[Price, None] = {}
    for path in paths:
        found |= dict.fromkeys(_of_file(path))
    return [*found]


def _of_file(path: str) -> list[Price]:
    contents = files.read_file(path)
    try:
        document = json.loads(contents)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not JSON: {first_line(error)}")
    entries = document.get(KEY) if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise RequestError(f"{path} is no history of spot prices: it has no list {KEY!r}, as `{COMMAND}` prints one")
    if not entries:
        raise RequestError(f"{path} holds no prices: its {KEY!r} is empty; ask for other instance types or days")
    return [_entry(entry, f"{path}: price {number} of {len(entries)}") for number, entry in enumerate(entries, 1)]


def _entry(entry: object, where: str) -> Price:
    """Return one price. Raise RequestError where it lacks something, or is no price."""
    if not isinstance(entry, dict):
        raise RequestError(f"{where} is {json.dumps(entry)[:60]}, not an object with InstanceType and SpotPrice")
    texts = {key: entry.get(key) for key in ("AvailabilityZone", "InstanceType", "SpotPrice", "Timestamp")}
    texts["ProductDescription"] = entry.get("ProductDescription", "")
    for key, text in texts.items():
        if not isinstance(text, str) or (key != "ProductDescription" and not text):
            raise RequestError(f"{where}: {key} is {json.dumps(text)[:60]}, not a text")
    try:
        price = float(texts["SpotPrice"])
    except ValueError:
        price = math.nan
    if not 0 < price < math.inf:
        raise RequestError(f"{where}: SpotPrice {texts['SpotPrice'][:60]!r} is not a number above 0")
    try:
        since = datetime.fromisoformat(texts["Timestamp"])
    except ValueError:
        raise RequestError(f"{where}: Timestamp {texts['Timestamp'][:60]!r} is no moment such as 2026-11-24T12:30:00Z")
    since = since if since.tzinfo else since.replace(tzinfo=UTC)
    return Price(texts["AvailabilityZone"], texts["InstanceType"], texts["ProductDescription"], price, since)


def offers(prices: Sequence[Price], gpus: Mapping[str, int]) -> list[Offer]:
    """Return an offer for each zone, instance type and product: the mean of its last prices by their moments.

    The cheapest for each GPU comes first; those whose GPUs nobody knows come last.
    """
    of: dict[tuple[str, str, str], list[Price]] = {}
    for each in prices:
        of.setdefault((each.zone, each.kind, each.product), []).append(each)
    found = []
    for (zone, kind, product), entries in of.items():
        last = sorted(entries, key=lambda each: each.since)[-LAST:]
        mean = fmean(each.price for each in last)
        found.append(Offer(zone, kind, product, mean, len(last), last[-1].since, gpus.get(kind)))
    return sorted(
        found, key=lambda each: (each.gpus is None, each.per_gpu or each.price, each.zone, each.kind, each.product)
    )
