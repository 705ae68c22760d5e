"""What a search takes: time, memory, disk and price, from main.py's dry run of one run of each distinct kind.

print(resources(search, options))                          # options: those of schedules.hyperband
"""

from schedules import estimate
from schedules.job_queue import Place
from schedules.launchers.local import Local
from schedules.search.brackets import epochs_of
from schedules.search.rounds import Search
from system.configuration import Configuration


def resources(search: Search, options: Configuration) -> str:
    """Return the table of estimate.report for what is left of a search where no run fails.

    Which runs go on is not known before. So what a bracket has left of its epochs, and its starts of processes, are
    shared evenly among those of its runs that have not all epochs yet. Raise RequestError, with the table as notes,
    where a run cannot be measured.
    """
    measured = estimate.measure(search.every(), options)
    if not measured:
        return "all runs have all epochs, nothing is left to do"
    places = {place.job.name: place for group in measured for place in group.jobs}
    shares: dict[str, tuple[float, float]] = {}
    for s, rounds in search.rounds.items():
        left = [places[job.name] for job in search.jobs[s] if job.name in places]
        ended = sum(job.epochs for job in search.jobs[s] if job.name not in places)
        epochs = max(0, epochs_of(rounds) - ended - sum(map(_done, left)))
        starts = sum(each.runs for each in rounds) / rounds[0].runs if epochs else 0.0
        shares |= {place.job.name: (epochs / len(left), starts) for place in left}

    def seconds(place: Place, said: dict) -> float:
        epochs, starts = shares[place.job.name]
        return epochs * said["epoch_seconds"] + starts * said["start_seconds"]

    table = estimate.report(measured, Local(options).slots, options.price, seconds)
    note = "each: a run with all epochs; left: the epochs that a bracket has left, shared evenly among its runs"
    return f"{table}\n{note}"


def _done(place: Place) -> int:
    record = place.record()
    return record.epochs_done if record is not None else 0
