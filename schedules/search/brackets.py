"""The brackets of Hyperband: how many runs are trained for how many epochs, and how many of them go on.

    for bracket in brackets(R=27, eta=3):
        print(bracket)          # [Round(runs=27, epochs=1, kept=9), Round(9, 3, 3), Round(3, 9, 1), Round(1, 27, None)], …

Li et al. 2018, "Hyperband: a novel bandit-based approach to hyperparameter optimization" (1603.06560), algorithm 1; each
bracket is successive halving, Jamieson & Talwalkar 2016 (1502.07943). Everything is whole numbers: a logarithm in floating
point is just below 3 for R = 125 and eta = 5. Imports no torch.
"""

from typing import NamedTuple


class Round(NamedTuple):
    """One round of a bracket: so many runs, trained to so many epochs in all, of which `kept` go on (None in the last)."""

    runs: int
    epochs: int
    kept: int | None


def largest(R: int, eta: int) -> int:
    """Return s_max = ⌊log_eta R⌋, the number of the first bracket. R ≥ 1, eta ≥ 2."""
    s = 0
    while eta ** (s + 1) <= R:
        s += 1
    return s


def bracket(R: int, eta: int, s: int) -> list[Round]:
    """Return the rounds of bracket `s`, 0 ≤ s ≤ s_max; s + 1 of them. Bracket 0 is random search: all runs have R epochs.

    n = ⌈(s_max + 1)·eta^s / (s + 1)⌉ runs begin, round i has ⌊n / eta^i⌋ of them, trained to R·eta^(i−s) epochs: rounded, a half
    upwards, and at least 1; the last round to R.
    """
    n = -(-(largest(R, eta) + 1) * eta**s // (s + 1))
    rounds = []
    for i in range(s + 1):
        runs, part = n // eta**i, eta ** (s - i)
        epochs = max(1, (2 * R + part) // (2 * part))
        rounds.append(Round(runs, epochs, runs // eta if i < s else None))
    return rounds


def brackets(R: int, eta: int) -> dict[int, list[Round]]:
    """Return the rounds of every bracket by its number, from s_max down to 0."""
    return {s: bracket(R, eta, s) for s in range(largest(R, eta), -1, -1)}


def epochs_of(rounds: list[Round]) -> int:
    """Return how many epochs a bracket trains where no run fails: each run goes on from what it had in the round before."""
    before = [0, *(each.epochs for each in rounds)]
    return sum(each.runs * (each.epochs - before[number]) for number, each in enumerate(rounds))


def counted(number: int, what: str) -> str:
    """Return a number of things in words: `1 run`, `17 runs`."""
    return f"{number:,} {what}{'s' * (number != 1)}"
