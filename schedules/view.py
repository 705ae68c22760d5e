"""Show a study that runs: a line for each event, and on a terminal a table of the running jobs below them.

with View(queue, "2 slots on this machine") as view:
    view.event("digits.teacher", "finished: error 2.36 %")
    view.refresh()
"""

import os
import sys
import time

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from record.reader import Record
from schedules.job_queue import BLOCKED, DIVERGED, ELSEWHERE, FAILED, FINISHED, RUNNING, WAITING, Place, Queue
from system.durations import duration

RENEWED = 1.0  # seconds between two looks at the running runs' metrics
SHOWN = 30  # running jobs that are shown


class Output(Console):
    """A console that goes on in silence when its reader has left: the jobs matter more."""

    def on_broken_pipe(self) -> None:
        """Print nothing from now on."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class View:
    """The events of a queue, which scroll by, and on a terminal the table of its running jobs below them."""

    def __init__(self, queue: Queue, where: str):
        self.queue, self.where, self.console = queue, where, Output(highlight=False, soft_wrap=True)
        self.live = Live(console=self.console, auto_refresh=False, transient=True) if self.console.is_terminal else None
        self.renewed = 0.0
        self.seconds = self.epochs = 0.0  # of the finished jobs together

    def __enter__(self) -> "View":
        if self.live:
            self.live.start()
        return self

    def close(self) -> None:
        """Remove the table; from now on only lines are printed."""
        if self.live:
            self.live.stop()
            self.live = None

    def __exit__(self, *exception) -> None:
        self.close()

    def event(self, name: str, what: str, style: str = "") -> None:
        """Print what has happened to a job, with the time; `style` is one of rich's, such as `red`."""
        line = Text.assemble((f"{time.strftime('%H:%M:%S')} ", "dim"), (name, "bold"), " ", (what, style))
        self.console.print(line)
        self.renewed = 0.0

    def say(self, text: str) -> None:
        """Print a line about the study as a whole."""
        self.console.print(Text(text))

    def refresh(self) -> None:
        """Draw the table again, if the last time is long enough ago."""
        if self.live and (time.monotonic() - self.renewed > RENEWED):
            self.live.update(Group(self._table(), Text(self.summary(), "bold")), refresh=True)
            self.renewed = time.monotonic()

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("running", overflow="ellipsis", no_wrap=True, max_width=self._room())
        for column, width in (("epoch", 7), ("error", 7), ("best", 7), ("images/s", 8), ("left", 8)):
            table.add_column(column, justify="right", no_wrap=True, min_width=width)
        running = [place for place in self.queue.places.values() if place.state in (RUNNING, ELSEWHERE)]
        for place in running[:SHOWN]:
            table.add_row(*self._row(place))
        if len(running) > SHOWN:
            table.add_row(f"and {len(running) - SHOWN} more")
        return table

    def _room(self) -> int:
        """Return how many columns of the terminal are left for a name."""
        return max(16, self.console.width - 52)

    def finished(self, place: Place) -> None:
        """Show the result of a job, and count its time and its epochs."""
        self.event(place.job.name, place.result() or result(place.record()), "green")
        self.seconds += time.monotonic() - place.began
        self.epochs += place.job.epochs - place.epochs

    def left(self) -> str:
        """Return in words how long the rest takes, at the mean time of an epoch so far; "" where nothing is known."""
        running = self.queue.count(RUNNING)
        if not (self.epochs and running):
            return ""
        pace, seconds = self.seconds / self.epochs, 0.0
        for place in self.queue.places.values():
            if place.state in (WAITING, RUNNING):
                since = time.monotonic() - place.began if place.state == RUNNING else 0.0
                seconds += max(0.0, pace * (place.job.epochs - place.epochs) - since)
        return f"; about {duration(seconds / running)} left"

    def _row(self, place: Place) -> list[str]:
        record, epochs = place.record(), place.job.options.epochs
        mark = " (elsewhere)" if place.state == ELSEWHERE else ""  # an event has said by which process
        name = shortened(place.job.name, self._room() - len(mark)) + mark
        if record is None or not record.last:
            return [name, f"0/{epochs}", "", "", "", ""]
        last, left = record.last, record.seconds_left
        error = _percent(record.tested, "test_top1_error") or _percent(last, "val_top1_error")
        return [
            name, f"{record.epochs_done}/{epochs}", error,
            _percent(record.tested, "best_test_top1_error"), f"{last.get('images_per_second', 0):,.0f}",
            duration(left) if left is not None else "",
        ]  # fmt: skip

    def summary(self) -> str:
        """Return the number of jobs in each state: `3 finished, 2 running, 4 waiting; 2 slots on this machine`."""
        counts = [
            f"{count} {state}"
            for state in (FINISHED, RUNNING, ELSEWHERE, WAITING, DIVERGED, FAILED, BLOCKED)
            if (count := self.queue.count(state))
        ]
        return f"{', '.join(counts)}{self.left()}; {self.where}"


def shortened(name: str, width: int) -> str:
    """Return the name, cut in its middle to `width` characters: its beginning and its end tell it from others."""
    return name if len(name) <= width else f"{name[: (width - 1) // 2]}…{name[len(name) - width // 2 :]}"


def _percent(row: dict, metric: str) -> str:
    return f"{row[metric]:.2f} %" if metric in row else ""


def result(record: Record) -> str:
    """Return the error and the time of a run that is finished, or as far as its --until, in words."""
    seconds = sum(row.get("seconds", 0.0) for row in record.rows)
    held_out = _percent(record.last, "val_top1_error")
    error = _percent(record.tested, "test_top1_error") or (f"{held_out} of images held out" if held_out else "unknown")
    end = "finished" if record.state == "finished" else f"{record.epochs_done} of {record.epochs_planned} epochs"
    return f"{end}: error {error} in {duration(seconds)}"
