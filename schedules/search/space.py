"""Read the space of a search, SPACE.yaml: a base command, R, eta, a seed, and flags with where their values come from.

    space = read("space.yaml")
    space.R, space.eta, space.flags(bracket=3, index=17)       # (27, 3, {"lr": "0.0173823", "nesterov": "true"})
    space.words(3, 17)                                         # ["--lr", "0.0173823", "--nesterov"]

    base: digits teacher --wrn_depth 10 --val_size 200
    R: 27
    eta: 3
    space:
      lr: {log_uniform: [1e-3, 1]}                             # or uniform, or integer: [2, 5], both ends possible
      nesterov: {choice: [true, false]}

Every mistake is one line with file and line. Imports no torch.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from cli import layers
from cli.counting import counting_parser
from cli.flags import training_parser
from schedules.search.brackets import brackets
from schedules.search.draws import Drawn, bits
from schedules.search.flags import OF_SEARCH, Flags
from schedules.search.nodes import Nodes
from system.errors import RequestError
from weights.sources import check_run_name

KEYS = ("base", "R", "eta", "seed", "name", "brackets", "space")
NEEDED = ("base", "R", "space")
MOST_RUNS = 10_000
ETA = 3  # of the paper


@dataclass(frozen=True)
class Space:
    """What a file asks for. `chosen`: the brackets to run; `lines`: where base and the flags of the space stand."""

    path: str
    base: tuple[str, ...]
    mode: str
    R: int
    eta: int
    seed: int
    name: str
    chosen: tuple[int, ...]
    drawn: Mapping[str, Drawn]
    lines: Mapping[str, str]

    def flags(self, bracket: int, index: int) -> dict[str, str | None]:
        """Return the values of a run's flags, as texts; None where one is left out."""
        draws = {flag: bits(self.seed, bracket, index, flag) for flag in self.drawn}
        return {flag: each.values.draw(draws[flag]) for flag, each in self.drawn.items()}

    def words(self, bracket: int, index: int) -> list[str]:
        """Return the words of a command line that give a run its flags."""
        values = self.flags(bracket, index)
        return [word for flag, each in self.drawn.items() for word in each.words(values[flag])]

    def name_of(self, bracket: int, index: int) -> str:
        """Return the name of a run: NAME.b3.017."""
        return f"{self.name}.b{bracket}.{index:03d}"


def read(path: str, chosen: tuple[int, ...] | None = None) -> Space:
    """Return the space of a file. Raise RequestError, in one line with file and line, for the first mistake.

    Args: chosen: the brackets to run, where the command line says them.
    """
    return _Reader(path).space(chosen)


class _Reader:
    """Reads one file. `values` are its nodes by key, `lines` where they stand."""

    def __init__(self, path: str):
        self.path, self.parser, self.nodes = path, training_parser(), Nodes(path)
        if self.nodes.root is None:
            raise RequestError(f"{path} is empty: a space needs {', '.join(f'`{key}:`' for key in NEEDED)}")
        self.values, self.lines = self.nodes.mapping(
            self.nodes.root, "a space has keys with values, as `R: 27`", KEYS, "key"
        )
        if missing := [key for key in NEEDED if key not in self.values]:
            raise RequestError(f"{path}: `{missing[0]}:` is missing: a space has {', '.join(NEEDED)}")

    def space(self, chosen: tuple[int, ...] | None) -> Space:
        """Return what the file asks for."""
        R = self.nodes.whole(self.values["R"], "R", 1)
        eta = self.nodes.whole(self.values["eta"], "eta", 2) if "eta" in self.values else ETA
        seed = self.nodes.whole(self.values["seed"], "seed", 0, 2**53) if "seed" in self.values else 0
        taken = self._chosen(R, eta, chosen)
        name = self._name()
        base, given = self._base()
        flags = Flags(self.nodes, self.parser, given)
        drawn = flags.read(self.values["space"])
        lines = {**flags.lines, "base": self.lines["base"]}
        return Space(self.path, base, given.options.mode, R, eta, seed, name, taken, drawn, lines)

    def _name(self) -> str:
        node = self.values.get("name")
        name = (
            Path(self.path).stem if node is None else self.nodes.text(node, "name", "the beginning of the runs' names")
        )
        try:
            check_run_name(f"{name}.b0.0000", "name")
        except RequestError:
            where = self.lines.get("name", self.path)
            wanted = "letters, digits and . _ + - (at most 92), for the runs are called NAME.b0.000"
            raise RequestError(f"{where}: name: {name!r} has to be {wanted}")
        return name

    def _chosen(self, R: int, eta: int, chosen: tuple[int, ...] | None) -> tuple[int, ...]:
        """Return the brackets to run, the largest first."""
        highest, where = max(every := brackets(R, eta)), "--brackets"
        if chosen is None and "brackets" in self.values:
            where = f"{self.lines['brackets']}: brackets"
            nodes = self.nodes.items(
                self.values["brackets"], "brackets", "a list of their numbers, as [0] for random search"
            )
            chosen = tuple(self.nodes.whole(node, "brackets", 0) for node in nodes)
        chosen = tuple(every) if chosen is None else chosen
        if not chosen:
            raise RequestError(f"{where}: the list is empty: give numbers from 0 to {highest}, or leave it out for all")
        if unknown := [each for each in chosen if each not in every]:
            raise RequestError(f"{where}: there is no bracket {unknown[0]}: R {R} and eta {eta} have 0 to {highest}")
        if (runs := sum(every[each][0].runs for each in {*chosen})) > MOST_RUNS:
            less = "a larger eta, a smaller R or fewer brackets need less"
            raise RequestError(
                f"{self.lines['R']}: R {R} and eta {eta} ask for {runs:,} runs, at most {MOST_RUNS:,}: {less}"
            )
        return tuple(sorted({*chosen}, reverse=True))

    def _base(self) -> tuple[tuple[str, ...], layers.Asked]:
        """Return the words of the base command after main.py, and what they ask for."""
        node, where = self.values["base"], self.lines["base"]
        wanted = "a command of main.py in one text or a list, as `digits teacher --val_size 200`"
        if isinstance(node, yaml.SequenceNode):
            words = [
                self.nodes.text(each, "base", "a list of words") for each in self.nodes.items(node, "base", wanted)
            ]
        else:
            text = self.nodes.text(node, "base", wanted)
            try:
                words = shlex.split(text)
            except ValueError as error:
                raise RequestError(f"{where}: base: {error}")
        if words[:1] == ["python"] and Path((words + [""])[1]).name == "main.py":
            words = words[2:]
        if odd := {"-h", "-rh", "--help", "--print_config", "--"} & {*words}:
            raise RequestError(f"{where}: base: take {min(odd)} out: base is the beginning of every run's command")
        try:
            asked = layers.read(self.parser, words, [counting_parser()])
        except RequestError as error:
            raise RequestError(f"{where}: base: {error}")
        self._check_base(asked, where)
        return tuple(words), asked

    def _check_base(self, asked: layers.Asked, where: str) -> None:
        student = asked.options.mode == "student"
        name = "student_checkpoint" if student else "teacher_checkpoint"
        named = f"{'-s' if student else '-t'} would name one run: the search names its runs itself, by `name:`"
        not_of_base = OF_SEARCH | {name: named}
        if given := [key for key in not_of_base if key in asked.origins]:
            origin = asked.origins[given[0]]
            raise RequestError(f"{where}: base: take {given[0]} out ({origin}): {not_of_base[given[0]]}")
        if student and asked.options.teacher_checkpoint is None:
            raise RequestError(f"{where}: base: student mode needs -t, the name of a finished teacher")
        if not asked.options.val_size:
            few = "runs are compared by their error on images held out of training: give --val_size N, such as a tenth of them"
            raise RequestError(f"{where}: base: {few}")
