"""The shapes of partitions, against the definitions of Jepsen's nemesis, for any number of nodes and any seed; and what is refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.core.errors import BadInput
from chaos.core.model import Json, NodeRef
from chaos.environments.base import Node
from chaos.faults import _shapes, _sides
from chaos.faults.partition import Partition

SEEDS = st.integers(0, 2**32)
QUICK = settings(deadline=None, max_examples=60)


def names(smallest: int, largest: int = 12) -> st.SearchStrategy[list[str]]:
    """That many nodes, in some order."""
    return st.integers(smallest, largest).flatmap(lambda count: st.permutations([f"n{number}" for number in range(count)]))


def refs(found: list[str]) -> list[NodeRef]:
    return [NodeRef("embedded", "system", name) for name in found]


def heard(nodes: list[str], grudge: _shapes.Grudge) -> dict[str, set[str]]:
    """Node -> those that it hears, itself included."""
    return {name: set(nodes) - set(grudge.get(name, ())) for name in nodes}


def mutual(views: dict[str, set[str]]) -> bool:
    return all(one in views[two] for one in views for two in views[one])


@QUICK
@given(names(2), SEEDS)
def test_halves_are_two_sides_of_all_the_smaller_first(nodes: list[str], seed: int) -> None:
    """Every node is on exactly one side, the first has half of them rounded down, and the same seed makes the same halves."""
    cut = Partition.halves(refs(nodes), seed)
    one, two = [ref.name for ref in cut.nodes], [ref.name for ref in cut.peers]
    assert sorted([*one, *two]) == sorted(nodes) and len(one) == len(nodes) // 2
    assert Partition.halves(refs(nodes), seed) == cut


@QUICK
@given(names(3), SEEDS, st.data())
def test_a_minority_is_the_largest_that_leaves_a_majority(nodes: list[str], seed: int, data: st.DataObject) -> None:
    """The peers are more than half of all nodes, one fewer would not be, and whoever was named is in the minority."""
    named = data.draw(st.lists(st.sampled_from(nodes), max_size=(len(nodes) - 1) // 2, unique=True))
    cut = Partition.majority_minority(refs(nodes), seed, minority=refs(named))
    few, many = {ref.name for ref in cut.nodes}, {ref.name for ref in cut.peers}
    assert few | many == set(nodes) and not few & many and set(named) <= few
    assert len(many) == _shapes.majority(len(nodes)) and 2 * len(many) > len(nodes) >= 2 * (len(many) - 1)


@QUICK
@given(names(2), SEEDS)
def test_a_random_node_is_one_from_all_the_others(nodes: list[str], seed: int) -> None:
    """One node on its own, everybody else on the other side."""
    cut = Partition.random_node(refs(nodes), seed)
    assert len(cut.nodes) == 1 and sorted(ref.name for ref in (*cut.nodes, *cut.peers)) == sorted(nodes)


@QUICK
@given(names(2), st.data())
def test_components_hear_themselves_and_nobody_else(nodes: list[str], data: st.DataObject) -> None:
    """Whatever the groups, a node hears its own group and no node outside it."""
    groups = [data.draw(st.integers(0, 3)) for _ in nodes]
    components = [[name for name, group in zip(nodes, groups, strict=True) if group == wanted] for wanted in sorted(set(groups))]
    views = heard(nodes, _shapes.complete(components))
    assert all(views[name] == set(component) for component in components for name in component)


@QUICK
@given(names(3), st.none() | SEEDS)
def test_exactly_one_node_bridges_two_halves(nodes: list[str], seed: int | None) -> None:
    """The bridge hears all and is heard by all; without it the rest falls into two groups that do not hear each other, which with it are
    the halves."""
    middle, grudge = _shapes.bridge(nodes, seed)
    views = heard(nodes, grudge)
    assert mutual(views) and views[middle] == set(nodes)
    sides = {frozenset(views[name] - {middle}) for name in nodes if name != middle}
    assert {len(side) for side in sides} == {len(nodes) // 2, len(nodes) - len(nodes) // 2 - 1}
    assert sum(len(side) for side in sides) == len(nodes) - 1 and len(sides) == 2
    if seed is None:
        assert middle == nodes[len(nodes) // 2]


@QUICK
@given(names(3, 15), SEEDS)
def test_in_a_ring_every_node_hears_a_majority_and_no_two_the_same(nodes: list[str], seed: int) -> None:
    """Every view has more than half of the nodes, somebody is missing from each, all differ; up to five nodes none is larger than it must
    be, and from four on hearing is mutual. The same seed makes the same ring."""
    views = heard(nodes, _shapes.majorities_ring(nodes, seed))
    assert all(name in view and 2 * len(view) > len(nodes) > len(view) for name, view in views.items())
    assert len({frozenset(view) for view in views.values()}) == len(nodes)
    assert mutual(views) or len(nodes) == 3
    if len(nodes) <= 5:
        assert {len(view) for view in views.values()} == {_shapes.majority(len(nodes))}
    assert views == heard(nodes, _shapes.majorities_ring(nodes, seed))


@pytest.mark.parametrize("count", [6, 7, 8, 9])
def test_a_larger_ring_has_no_more_links_than_it_needs(count: int) -> None:
    """No node of it hears more than one beyond the majority."""
    nodes = [f"n{number}" for number in range(count)]
    for seed in range(200):
        sizes = [len(view) for view in heard(nodes, _shapes.majorities_ring(nodes, seed)).values()]
        assert max(sizes) <= _shapes.majority(count) + 1


@pytest.mark.parametrize("make", [Partition.bridge, lambda nodes: Partition.majorities_ring(nodes, 1)])
def test_a_shape_is_one_fault_that_survives_json(make) -> None:  # type: ignore[no-untyped-def]
    """One record names all the nodes; decoded from JSON it is the same fault."""
    cut = make(refs(["a", "b", "c", "d", "e"]))
    again = msgspec.json.decode(msgspec.json.encode(cut), type=Partition)
    assert again == cut and [ref.name for ref in again.targets] == ["a", "b", "c", "d", "e"]
    assert again.params()["grudge"] == {name: list(others) for name, others in cut.grudge.items()}


class Located:
    """A node that has an address and nothing else."""

    def __init__(self, ref: NodeRef) -> None:
        self.ref, self.name, self.address = ref, ref.name, f"10.0.0.{ord(ref.name[0]) - ord('a') + 1}"

    def state(self) -> dict[str, Json]:
        return {}


@pytest.mark.parametrize(
    ("cut", "rules", "dropped"),
    [
        (Partition.between, {"in", "out"}, {"ab", "ba"}),
        (lambda a, b: Partition.between(a, b, one_way=True), {"out"}, {"ab"}),
        (lambda a, b: Partition.between(a, b, direction="out"), {"out"}, {"ab"}),
        (lambda a, b: Partition.between(a, b, direction="in"), {"in"}, {"ba"}),
        (lambda a, b: Partition.from_cidr(a, "10.0.0.2/31", b, direction="in"), {"in"}, {"ba"}),
    ],
)
def test_directions_are_the_nodes_own(cut, rules: set[str], dropped: set[str]) -> None:  # type: ignore[no-untyped-def]
    """``out`` (once ``one_way``) is what the nodes send, ``in`` what they receive, else both."""
    a, b = refs(["a", "b"])
    fault = cut(a, [b])
    known: dict[str, Node] = {"a": Located(a), "b": Located(b)}
    assert {"in" if rule.inbound else "out" for rule in fault._rules("a", {"b": "10.0.0.2"})} == rules
    assert {source + target for source, target in fault._dropped(known)} == dropped
    assert fault._cut(known) == [("a", "b")]
    assert bool(_sides.open_ways(fault._dropped(known), [("a", "b")])) is (len(dropped) == 1)


A, B, C = refs(["a", "b", "c"])


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Partition((A,), ()), "two sides"),
        (Partition((A, B), (B,)), "two sides"),
        (Partition((A,), (B,), direction="sideways"), "no such direction"),
        (Partition((A,), (B,), one_way=True, direction="in"), "no such direction"),
        (Partition((A, B), grudge={"a": ("z",)}), "among nodes"),
        (Partition((A, B), (C,), grudge={"a": ("b",)}), "among nodes"),
        (Partition((A,), (B,), everybody=True, cidrs=("10.0.0.0/8",)), "not both"),
        (Partition.from_cidr(A, "10.0.0.1/8", [B]), "no IPv4 network"),
        (Partition.from_cidr(A, "db.example/8", [B]), "no IPv4 network"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_node_is_asked(fault: Partition, why: str) -> None:
    """Bad input, said before any node was resolved."""

    def nowhere(ref: NodeRef) -> Node:
        raise AssertionError(f"{ref} was asked")

    with pytest.raises(BadInput, match=why):
        fault.plan("test", nowhere)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Partition.bridge([A, B]),
        lambda: Partition.majorities_ring([A, B], 1),
        lambda: Partition.majority_minority([A, B], 1),
        lambda: Partition.majority_minority([A, B, C], 1, minority=[A, B]),
        lambda: Partition.halves([A, A], 1),
        lambda: Partition.components([[A], [A, B]]),
    ],
)
def test_shapes_need_enough_nodes_each_once(make) -> None:  # type: ignore[no-untyped-def]
    """Too few nodes for a shape, a minority that would be none, and a node that stands twice are bad input."""
    with pytest.raises(BadInput):
        make()


def test_pairs_are_named_once() -> None:
    """A pair and its reverse are one where both ways are meant, and two where a port of the first is."""
    found = [("a", "b"), ("b", "a"), ("a", "b")]
    assert _sides.once(found, both_ways=True) == [("a", "b")]
    assert _sides.once(found, both_ways=False) == [("a", "b"), ("b", "a")]
    assert _sides.pairs(["a", "b", "c"]) == [("a", "b"), ("a", "c"), ("b", "c")]
