"""Watch all runs of a folder, whoever trains them: a live table on a terminal, else a line for each change.

    watch(lambda: [folder for folder in RUNS.iterdir()], seconds=2.0)         # until Ctrl-C

A look costs a few file stamps for each run. Only what has changed is read again, and only of a run that is not finished is it asked
whether a process holds it.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.live import Live
from rich.table import Table
from rich.text import Text

from record.paths import checkpoint_path
from record.reader import Record, holder, read
from schedules.view import Output, shortened
from system.durations import duration
from system.files import file_identity
from system.signals import Deferred

PULSE = 0.1  # seconds between two looks at whether to stop
ORDER = ("running", "stale", "failed", "diverged", "interrupted", "paused", "finished")
STYLES = {
    "running": "green",
    "stale": "red",
    "failed": "red",
    "diverged": "red",
    "interrupted": "yellow",
    "paused": "yellow",
}
WATCHED = ("config.json", "metrics.jsonl", "end.json", "lock")


@dataclass
class Seen:
    """A run as it was found last: `stamp` changes with its files, `written` is when one of them was (seconds since 1970)."""

    stamp: tuple
    held: bool
    record: Record | None
    written: float

    @property
    def state(self) -> str:
        """One of ORDER."""
        return self.record.condition

    def row(self, now: float) -> list[str]:
        """Return state (of a running one with the seconds since it wrote something), epochs, error and the time that is left."""
        record, left = self.record, ""
        state, age = self.state, max(0.0, now - self.written)
        if state == "running":
            state = f"running, wrote {duration(age)} ago" if age >= 1 else "running"
            seconds = record.seconds_left
            left = duration(max(0.0, seconds - age)) if seconds is not None else ""
        return [state, f"{record.epochs_done}/{record.epochs_planned}", record.shown_error(" %"), left]


class Runs:
    """The runs of some folders, each read again when its files change."""

    def __init__(self, folders: Callable[[], Iterable[Path]]):
        self.folders, self.seen, self.reads = folders, {}, 0

    def look(self) -> dict[str, Seen]:
        """Return the runs that are there now, by name."""
        found = {}
        for folder in self.folders():
            if (run := self._seen(folder)).record is not None:
                found[folder.name] = run
            self.seen[folder] = run
        for gone in {*self.seen} - {*self.folders()}:
            del self.seen[gone]
        return found

    def _seen(self, folder: Path) -> Seen:
        paths = [*(folder / name for name in WATCHED), checkpoint_path(folder.name)]
        stamp, before = tuple(file_identity(path) for path in paths), self.seen.get(folder)
        is_over = before is not None and before.record is not None and before.record.state == "finished"
        if before is not None and before.stamp == stamp and (is_over or bool(holder(folder)) == before.held):
            return before
        self.reads += 1
        written = max((each[2] for each in stamp if each), default=0) / 1e9
        record = read(folder)
        return Seen(stamp, record is not None and record.state == "running", record, written)


def watch(folders: Callable[[], Iterable[Path]], seconds: float, state: str | None = None) -> int:
    """Show the runs of folders until a signal comes. Return 0 after Ctrl-C; other signals end it as any command.

    Args: seconds: between two looks; state: only runs of this state, one of ORDER or of record.reader.
    """
    runs, console = Runs(folders), Output(highlight=False, soft_wrap=True)
    with Deferred(notice="") as stop:
        show = _Table(console) if console.is_terminal else _Lines(console)
        with show:
            while not (stop() or console.quiet):
                found = {name: run for name, run in runs.look().items() if state in (None, run.state, run.record.state)}
                show(found)
                until = time.monotonic() + seconds
                while not stop() and (rest := until - time.monotonic()) > 0:
                    time.sleep(min(PULSE, rest))
    if stop() and stop.received != 2:
        stop.interrupt()
    return 0


class _Lines:
    """A line for each run, and one each time its state, its epochs or its error change."""

    def __init__(self, console: Output):
        self.console, self.said = console, {}

    def __call__(self, found: dict[str, Seen]) -> None:
        for name, run in sorted(found.items()):
            state, epochs, error, _ = run.row(run.written)
            if self.said.get(name) != (state, epochs, error):
                self.said[name] = (state, epochs, error)
                words = " ".join(filter(None, (f"{name}:", state, epochs, error)))
                self.console.print(Text(f"{time.strftime('%H:%M:%S')} {words}"))
        for name in {*self.said} - {*found}:
            self.console.print(Text(f"{time.strftime('%H:%M:%S')} {name}: gone"))
            del self.said[name]

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *exception) -> None: ...


class _Table:
    """A table that is drawn again in its place: running runs first, then those that need somebody, then by their last change."""

    def __init__(self, console: Output):
        self.console = console
        self.live = Live(console=console, auto_refresh=False)

    def __call__(self, found: dict[str, Seen]) -> None:
        now, room = time.time(), max(3, self.console.height - 4)
        rows = sorted(found.items(), key=lambda each: (ORDER.index(each[1].state), -each[1].written))
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("run", no_wrap=True)
        for column, side in (("state", "left"), ("epoch", "right"), ("error", "right"), ("left", "right")):
            table.add_column(column, justify=side, no_wrap=True)
        for name, run in rows[:room]:
            state, *cells = run.row(now)
            table.add_row(
                shortened(name, max(16, self.console.width - 56)), Text(state, STYLES.get(run.state, "")), *cells
            )
        more = f"and {len(rows) - room} more; " if len(rows) > room else ""
        counts = Counter(run.state for run in found.values())
        listed = ", ".join(f"{counts[each]} {each}" for each in ORDER if counts[each])
        table.caption, table.caption_justify = f"{more}{listed or 'no run yet'}; Ctrl-C leaves", "left"
        self.live.update(table, refresh=True)

    def __enter__(self) -> "_Table":
        self.live.start()
        return self

    def __exit__(self, *exception) -> None:
        self.live.stop()
