"""What TensorBoard's tab HPARAMS shows of a run: its configuration, its costs, and which of its points are its errors.

    for event in beginning(config, counts): writer.write_event(event)      # once for each file of events
    writer.write_event(end())                                              # after the last epoch

TensorBoard takes the columns of its table from one of the runs that it shows, so every run lists OPTIONAL too, whether
it has them or not. The errors are the last points of METRICS in the same file: that of the last epoch before the best
of all epochs, as that one is chosen by the test images.
"""

import time
from collections.abc import Iterator, Mapping

from tensorboardX.proto.api_pb2 import DataType, Experiment, HParamInfo, MetricInfo, MetricName, Status
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata

from input import facts
from record.identity import NOT_IDENTITY

METRICS = {
    "test/top1_error": "test error, last epoch",
    "test/top1_error_best": "test error, best epoch",
    "val/top1_error": "error of images held out, last epoch",
}
COSTS = ("params", "mult_adds_exact")
OPTIONAL = {
    "alpha": float, "beta": float, "temperature": float, "crs_factor": float, "teacher_checkpoint": str, "init_from": str,
    "conv": str, "module": str, "prune": str, "gate": str, "loss": str, **dict.fromkeys(COSTS, float),
}  # fmt: skip
TYPES = {str: "DATA_TYPE_STRING", bool: "DATA_TYPE_BOOL", float: "DATA_TYPE_FLOAT64"}
PREFIX = "_hparams_/"  # of the tags that TensorBoard looks for


def compared(config: Mapping, counts: Mapping) -> dict[str, str | bool | float]:
    """Return the values of a run by which TensorBoard compares it: what changes its result, and its costs.

    Digests, the facts of its data and its own name are left out, and so is what is not given.
    """
    without = {*NOT_IDENTITY, *facts.KEYS, "student_checkpoint"}
    without |= {"teacher_checkpoint"} if config.get("mode") != "student" else set()  # its own name
    found = {name: value for name, value in config.items() if name not in without and not name.endswith("_digest")}
    found |= {name: counts[name] for name in COSTS if name in counts}
    return {name: _plain(value) for name, value in found.items() if value is not None}


def _plain(value: object) -> str | bool | float:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return float(value)
    return str(value).encode(errors="backslashreplace").decode()  # a path may have bytes that are no UTF-8


def beginning(config: Mapping, counts: Mapping) -> Iterator[Event]:
    """Yield the events that say what a run is. Args: counts: its costs, by their names in config.json."""
    values = compared(config, counts)
    types = OPTIONAL | {name: type(value) for name, value in values.items()}
    columns = [HParamInfo(name=name, type=DataType.Value(TYPES[kind])) for name, kind in types.items()]
    metrics = [MetricInfo(name=MetricName(tag=tag), display_name=words) for tag, words in METRICS.items()]
    yield _event("experiment", experiment=Experiment(hparam_infos=columns, metric_infos=metrics))
    start = SessionStartInfo()
    for name, value in values.items():
        kind = {str: "string_value", bool: "bool_value", float: "number_value"}[type(value)]
        setattr(start.hparams[name], kind, value)
    yield _event("session_start_info", session_start_info=start)


def end() -> Event:
    """Return the event that says that a run is finished."""
    return _event("session_end_info", session_end_info=SessionEndInfo(status=Status.Value("STATUS_SUCCESS")))


def _event(tag: str, **content) -> Event:
    data = HParamsPluginData(version=0, **content).SerializeToString()
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="hparams", content=data))
    return Event(wall_time=time.time(), summary=Summary(value=[Summary.Value(tag=PREFIX + tag, metadata=metadata)]))
