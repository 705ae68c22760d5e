"""The order in which a network registers its modules, from sorted names, as a safetensors file has them.

    arrange(theirs, ours)        # theirs in the order of ours; None: no order fits; raises Unclear: several do

Names show this: modules with a common prefix stand together; of names that differ in numbers alone the smaller number
comes first; groups of theirs and of ours do not overlap in part; and the same name has the same part in every block (a
`downsample` is the shortcut of each). Shapes show that each module pairs with one of its kind and shape. An order is
taken only if it is the only one for which all of this holds.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache

LIMIT = 4096  # orders of a part of a network, or of the whole, that are looked at
TOO_MANY = "names and shapes allow very many orders of its modules"


class Unclear(Exception):
    """Names and shapes allow several orders, or too many to look at."""


def natural(name: str) -> tuple:
    """Return the numbers in a name, so that layer2 sorts before layer10."""
    return tuple((len(each), each) for each in (number.lstrip("0") for number in re.findall(r"[0-9]+", name)))


def naturally(name: str) -> list[tuple]:
    """Return a key that sorts names as people do: by text, and by numbers where they have some."""
    return [(not part.isdigit(), int(part) if part.isdigit() else part) for part in re.findall(r"[0-9]+|[^0-9]+", name)]


def skeleton(name: str) -> str:
    """Return a name without the numbers."""
    return re.sub(r"[0-9]+", "#", name)


class _Node:
    """A part of a network with a common prefix of names: a module, or further parts."""

    def __init__(self):
        self.parts: dict[str, _Node] = {}
        self.module = None
        self.size = 0

    def chains(self) -> list[list["_Node"]]:
        """Return its parts, those that differ in numbers alone in one list, by number."""
        found: dict[str, list[str]] = {}
        for name in self.parts:
            found.setdefault(skeleton(name), []).append(name)
        chains = [[self.parts[name] for name in sorted(names, key=natural)] for names in found.values()]
        return ([[_leaf(self.module)]] if self.module is not None else []) + chains


def _leaf(module) -> _Node:
    node = _Node()
    node.module, node.size = module, 1
    return node


def _tree(modules: Sequence) -> _Node:
    root = _Node()
    for module in modules:
        node = root
        node.size += 1
        for part in module.name.split("."):
            node = node.parts.setdefault(part, _Node())
            node.size += 1
        node.module = module
    return root


def _intervals(ours: Sequence) -> list[tuple[int, int]]:
    """Return where each group of ours begins and ends."""
    places: dict[str, list[int]] = {}
    for place, module in enumerate(ours):
        parts = module.name.split(".")
        for depth in range(1, len(parts)):
            places.setdefault(".".join(parts[:depth]), []).append(place)
    found = {(min(each), max(each) + 1) for each in places.values()}
    return [(start, end) for start, end in found if end - start > 1]


def arrange(theirs: Sequence, ours: Sequence) -> list | None:
    """Return modules (with `name` and `signature`) in the order of others; None where no order fits.

    Raises Unclear where several orders fit.
    """
    if sorted(map(_signature, theirs)) != sorted(map(_signature, ours)):
        return None
    found = _orders(_tree(theirs), ours)
    if not found:
        return None
    roles = {id(each): _roles(each, ours) for each in found}
    fewest = min(roles.values())
    first, *others = [each for each in found if roles[id(each)] == fewest]
    if others:
        a, b = next((a, b) for a, b in zip(first, others[0]) if a is not b)
        raise Unclear(f"{a.name} and {b.name} could each stand where the other does")
    return list(first)


def _signature(module) -> str:
    return repr(module.signature)


def _roles(order: Sequence, ours: Sequence) -> int:
    """Return how many pairs of a kind of name there and a kind of name here an order makes."""
    return len({(skeleton(a.name), skeleton(b.name), b.signature[0]) for a, b in zip(order, ours)})


def _orders(root: _Node, ours: Sequence) -> list[tuple]:
    """Return every order of the modules in a tree that has the shapes of ours."""
    groups, wanted = _intervals(ours), [_signature(module) for module in ours]

    def crosses(start: int, end: int) -> bool:
        return any(a < start < b < end or start < a < end < b for a, b in groups)

    @cache
    def of(node: _Node, start: int) -> list[tuple]:
        """Return the orders of a part that begins at a place of ours."""
        if node.module is not None and not node.parts:
            return [(node.module,)] if _signature(node.module) == wanted[start] else []
        return [] if crosses(start, start + node.size) else _merged(node.chains(), start, of)

    return of(root, 0)


def _merged(chains: list[list[_Node]], start: int, of: Callable[[_Node, int], list[tuple]]) -> list[tuple]:
    """Return the orders in which chains can be interleaved, from a place of ours on."""

    @cache
    def rest(done: tuple[int, ...], place: int) -> list[tuple]:
        if all(count == len(chain) for count, chain in zip(done, chains)):
            return [()]
        found = []
        for which, (count, chain) in enumerate(zip(done, chains)):
            if count == len(chain):
                continue
            heads = of(chain[count], place)
            tails = rest((*done[:which], count + 1, *done[which + 1 :]), place + chain[count].size) if heads else []
            found += [head + tail for head in heads for tail in tails]
            if len(found) > LIMIT:
                raise Unclear(TOO_MANY)
        return found

    return rest((0,) * len(chains), start)
