"""The flags of a space: what they may be, and where their values come from. Every value is checked by its flag's own parser.

    drawn = Flags(nodes, parser, base).read(node)              # {"lr": Drawn(Range("log_uniform", "1e-3", "1"), …)}
    drawn["lr"].words("0.0173823")                             # ["--lr", "0.0173823"]

Imports no torch.
"""

from argparse import Action
from decimal import Decimal, InvalidOperation
from functools import partial

import yaml

from cli import layers
from cli.command import Parser
from cli.config_files import MOST_NODES, NULL
from record.identity import NOT_IDENTITY
from schedules.search.draws import KINDS, Choice, Drawn, Range
from schedules.search.nodes import Nodes
from system.errors import RequestError

MOST_VALUES = 1000  # of one choice
DRAWS = (1 << 63, 1 << 62, 0x9E3779B97F4A7C15)  # the middle of a range may be a whole number, other draws are none
OF_SEARCH = {
    "epochs": "R says it", "until": "the rounds of the brackets say it", "resume": "every run goes on by itself",
    "test_every": "the test images are looked at for the winner alone", "reestimate_bn": "it tests, and only the winner is tested",
    "evaluate": "it trains nothing", "gate_skip": "it trains nothing", "dry_run": "give it to schedules.hyperband", "json": "it trains nothing",
}  # fmt: skip
SAME = "runs are compared by their error on the same images"
OF_ALL_RUNS = {
    "dataset": SAME, "val_size": SAME, "mode": "it is the same for all runs",
    "teacher_checkpoint": "it is a name", "student_checkpoint": "the search names its runs",
}  # fmt: skip
FINDING = ("budget", "budget_mult_adds", "allocate")  # no part of a run's identity, but what they find is
SAME_RESULT = {key: "it changes nothing of what is trained" for key in NOT_IDENTITY if key not in FINDING}
NOT_VARIED = SAME_RESULT | OF_SEARCH | OF_ALL_RUNS


class Flags:
    """Reads them. `base` is what the base command asks for; `lines`: where each flag stands, once they are read."""

    def __init__(self, nodes: Nodes, parser: Parser, base: layers.Asked):
        self.nodes, self.parser, self.base = nodes, parser, base
        self.lines: dict[str, str] = {}
        self.listed = 0

    def read(self, node: yaml.Node) -> dict[str, Drawn]:
        """Return the flags of the space. Raise RequestError for the first mistake."""
        actions = {key: each for key, each in layers.keys_of(self.parser).items() if each.option_strings}
        known = [*actions, *(key for key in OF_ALL_RUNS if key not in actions)]
        wanted = "space: give flags of main.py, each with a range, as `lr: {log_uniform: [1e-3, 1]}`"
        nodes, self.lines = self.nodes.mapping(node, wanted, known, "flag")
        if not nodes:
            raise self.nodes.fault(node, f"{wanted}: it is empty")
        for flag in nodes:
            if flag in NOT_VARIED:
                raise RequestError(f"{self.lines[flag]}: {flag} cannot be varied: {NOT_VARIED[flag]}")
            if flag in self.base.origins:
                raise RequestError(
                    f"{self.lines[flag]}: {flag} is given by base too ({self.base.origins[flag]}): keep one of them"
                )
        return {flag: self._flag(flag, actions[flag], each) for flag, each in nodes.items()}

    def _flag(self, flag: str, action: Action, node: yaml.Node) -> Drawn:
        kinds = (*KINDS, "choice")
        wanted = f"{flag}: give one of {', '.join(kinds)}, as `{{log_uniform: [1e-3, 1]}}` or `{{choice: [1, 2]}}`"
        found, _ = self.nodes.mapping(node, wanted, kinds, f"way to draw {flag},")
        if len(found) != 1:
            raise self.nodes.fault(node, wanted)
        ((kind, values),) = found.items()
        words = partial(words_of_flag, action)
        if kind == "choice":
            return Drawn(self._choice(flag, action, values), words)
        return Drawn(self._range(flag, action, kind, values), words)

    def _range(self, flag: str, action: Action, kind: str, node: yaml.Node) -> Range:
        what = f"{flag}: {kind}"
        ends = self.nodes.items(node, what, "its ends, as [1, 10]")
        if len(ends) != 2:
            raise self.nodes.fault(node, f"{what} has {len(ends)} values: give its two ends, as [1, 10]")
        low, high = (self._end(each, what, kind) for each in ends)
        if Decimal(low) >= Decimal(high):
            raise self.nodes.fault(
                node, f"{what}: {low} is not below {high}: give the lower end first, `choice` for one value"
            )
        if kind == "log_uniform" and Decimal(low) <= 0:
            raise self.nodes.fault(node, f"{what}: {low} has no logarithm: give ends above 0, or take `uniform`")
        values = Range(kind, low, high)
        if action.nargs == 0:
            raise self.nodes.fault(node, f"{what}: --{flag} takes no number: give `choice: [true, false]`")
        for each in (low, high):
            self._check(action, each, node)
        if kind != "integer":
            self._check_fraction(action, values, node)
        return values

    def _check_fraction(self, action: Action, values: Range, node: yaml.Node) -> None:
        """Raise RequestError where the flag takes no fraction, which a range of numbers would draw."""
        drawn = (values.draw(bits) for bits in DRAWS)
        if (fraction := next((each for each in drawn if not is_whole(Decimal(each))), None)) is None:
            return
        try:
            layers.value_of(self.parser, action, fraction)
        except RequestError as error:
            whole = f"`integer: [{values.low}, {values.high}]` draws whole numbers"
            raise self.nodes.fault(node, f"{error}, as {values.kind} would draw: {whole}")

    def _end(self, node: yaml.Node, what: str, kind: str) -> str:
        wanted = "whole numbers" if kind == "integer" else "numbers"
        text = self.nodes.text(node, what, f"{wanted}, as [1, 10]")
        try:
            value = Decimal(text) if len(text) <= 40 and "_" not in text else Decimal("nan")
        except InvalidOperation:
            value = Decimal("nan")
        if not value.is_finite() or abs(value.adjusted()) > 300 or (kind == "integer" and not is_whole(value)):
            raise self.nodes.fault(node, f"{what}: {text[:60]!r} is none of {wanted}")
        return str(int(value)) if kind == "integer" else text

    def _choice(self, flag: str, action: Action, node: yaml.Node) -> Choice:
        nodes = self.nodes.items(node, f"{flag}: choice", "a list of values, as [1, 2]")
        if not nodes:
            raise self.nodes.fault(node, f"{flag}: choice is empty: give values of --{flag}")
        if len(nodes) > MOST_VALUES:
            raise self.nodes.fault(node, f"{flag}: choice has {len(nodes):,} values, at most {MOST_VALUES:,}")
        texts: list[str | None] = []
        values: list[object] = []
        for each in nodes:
            text, value = self._value(flag, action, each)
            if value in values:
                before = texts[values.index(value)]
                again = f"{text!r} twice" if text == before else f"{before!r} and {text!r}, which are the same"
                raise self.nodes.fault(each, f"{flag}: choice has {again}: each value is as likely as any other")
            texts.append(text)
            values.append(value)
        return Choice(tuple(texts))

    def _value(self, flag: str, action: Action, node: yaml.Node) -> tuple[str | None, object]:
        """Return a value of a choice as the text of its flag, and what the flag makes of it.

        Both are None for null, which leaves the flag out.
        """
        if isinstance(node, yaml.ScalarNode) and node.tag == NULL:
            return None, None
        if isinstance(node, yaml.SequenceNode):
            if (join := layers.join_of(action)) is None:
                raise self.nodes.fault(node, f"{flag}: choice: --{flag} takes one value, no list")
            text = join(self._nested(flag, node, 2))
        else:
            text = self.nodes.text(node, f"{flag}: choice", "texts, numbers, lists, true, false or null")
        value = self._check(action, text, node)
        return text.lower() if action.nargs == 0 else text, value

    def _nested(self, flag: str, node: yaml.Node, levels: int):
        if isinstance(node, yaml.ScalarNode):
            return self.nodes.text(node, f"{flag}: choice", "texts or numbers in a list")
        nodes = self.nodes.items(node, f"{flag}: choice", "texts or numbers in a list")
        self.listed += len(nodes)
        if self.listed > MOST_NODES:
            raise self.nodes.fault(
                node, f"the lists of the file and their aliases hold more than {MOST_NODES:,} values"
            )
        if not levels or len(nodes) > 100:
            raise self.nodes.fault(
                node, f"{flag}: choice: a list of at most 100 values, or of such lists, is one value"
            )
        return [self._nested(flag, each, levels - 1) for each in nodes]

    def _check(self, action: Action, text: str, node: yaml.Node) -> object:
        """Return what the flag makes of a text. Raise RequestError where it does not take it."""
        try:
            value = layers.value_of(self.parser, action, text)
            if check := layers.CHECKS.get(action.dest):
                check(value)
        except RequestError as error:
            raise self.nodes.fault(node, str(error))
        return value


def is_whole(value: Decimal) -> bool:
    """Return whether a number has no fraction."""
    return value == value.to_integral_value()


def words_of_flag(action: Action, text: str | None) -> list[str]:
    """Return the words of a command line that give a flag a value; none for None, or where they turn nothing off."""
    if text is None:
        return []
    flag = f"--{action.dest}"
    if action.nargs == 0:
        if layers.SWITCHED[text]:
            return [flag]
        return [off] if (off := f"--no_{action.dest}") in action.option_strings else []
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]
