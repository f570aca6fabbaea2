"""Shapes of partitions, named and defined as Jepsen's nemesis does (``jepsen.nemesis``: bisect, complete-grudge, bridge, majorities-ring).

Pure: names in, a *grudge* out, which maps a node to the nodes whose packets it drops. Chance comes from a seed alone, so that a shape
can be made again. No fault of its own, and no node is touched.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from chaos.core.errors import BadInput

Grudge: TypeAlias = dict[str, tuple[str, ...]]


def majority(count: int) -> int:
    """How many of ``count`` are more than half of them."""
    return count // 2 + 1


def shuffled(names: Sequence[str], seed: int | None) -> list[str]:
    """In an order that ``seed`` decides; None: as they are. A name that stands there twice is a mistake."""
    if len(set(names)) != len(names):
        raise BadInput("a node stands twice in a partition", observed=", ".join(names))
    order = list(names)
    if seed is not None:
        random.Random(seed).shuffle(order)
    return order


def bisect(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Two halves, the smaller first."""
    middle = len(names) // 2
    return list(names[:middle]), list(names[middle:])


def minority_and_majority(names: Sequence[str], seed: int, minority: Sequence[str]) -> tuple[list[str], list[str]]:
    """The largest minority that there is, and the rest, which is a majority whatever the number of nodes; whoever is named in
    ``minority`` is in it."""
    order = [*minority, *(name for name in shuffled(names, seed) if name not in minority)]
    size = (len(names) - 1) // 2
    if not set(minority) <= set(names) or len(set(minority)) > size or size < 1:
        raise BadInput(
            f"no minority of {len(names)} nodes has these in it", expected=f"at most {size} of them", observed=", ".join(minority)
        )
    return order[:size], order[size:]


def complete(components: Sequence[Sequence[str]]) -> Grudge:
    """No node hears any that is not in its own component."""
    everybody = [name for component in components for name in component]
    shuffled(everybody, None)
    return _without_empty(
        {name: tuple(other for other in everybody if other not in component) for component in components for name in component}
    )


def bridge(names: Sequence[str], seed: int | None) -> tuple[str, Grudge]:
    """Two halves that do not hear each other, but for one node of the larger half (the first), which hears and is heard by all."""
    _at_least(3, names, "a bridge")
    smaller, larger = bisect(shuffled(names, seed))
    middle = larger[0]
    cut = complete((smaller, larger))
    return middle, _without_empty({name: tuple(other for other in cut[name] if other != middle) for name in cut if name != middle})


def majorities_ring(names: Sequence[str], seed: int) -> Grudge:
    """Every node hears a majority (itself included), and no two hear the same one.

    Up to five nodes stand in a ring and each hears those around it, which with four and five is mutual; with three there is no mutual
    ring, and each hears one neighbour. More are linked pair by pair, always the two that have the fewest links and are not linked yet,
    until each has a majority.
    """
    _at_least(3, names, "a ring of majorities")
    order = shuffled(names, seed)
    if len(order) <= 5:
        heard = _ring(order)
    else:
        chance = random.Random(seed)
        heard = _linked_by_degree(order, chance)
        while len({frozenset(view) for view in heard.values()}) < len(order):
            heard = _linked_by_degree(order, chance)
    return _without_empty({name: tuple(other for other in order if other not in heard[name]) for name in order})


def _ring(order: Sequence[str]) -> dict[str, set[str]]:
    size, count = majority(len(order)), len(order)
    return {order[at]: {order[(at - size // 2 + step) % count] for step in range(size)} for at in range(count)}


def _linked_by_degree(order: Sequence[str], chance: random.Random) -> dict[str, set[str]]:
    heard = {name: {name} for name in order}
    while True:
        fewest = min(len(view) for view in heard.values())
        if fewest >= majority(len(order)):
            return heard
        ranked = sorted(order, key=lambda name: (len(heard[name]), chance.random()))
        one = ranked[0]
        two = next(name for name in ranked if name not in heard[one])
        heard[one].add(two)
        heard[two].add(one)


def _without_empty(grudge: Mapping[str, tuple[str, ...]]) -> Grudge:
    return {name: dropped for name, dropped in grudge.items() if dropped}


def _at_least(count: int, names: Sequence[str], what: str) -> None:
    if len(names) < count:
        raise BadInput(f"{what} needs at least {count} nodes", observed=str(len(names)))
