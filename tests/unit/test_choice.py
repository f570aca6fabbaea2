"""Choosing nodes and composing faults: pure data, whatever the seed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.core.errors import BadInput
from chaos.core.model import NodeRef
from chaos.faults.choice import choose
from chaos.faults.composition import Repeat, Sequence, Together, faults_of
from chaos.faults.noop import Noop


def refs(count: int) -> list[NodeRef]:
    return [NodeRef("embedded", "s", f"n{number}") for number in range(count)]


@given(st.integers(1, 9), st.integers())
def test_minority_and_majority_are_what_quorums_mean_by_them(count: int, seed: int) -> None:
    """A majority is more than half, a minority less, of any number; the rest of a minority is a majority."""
    members = refs(count)
    majority = choose("majority", members, chance=random.Random(seed))
    assert 2 * len(majority) > count and 2 * (len(majority) - 1) <= count
    if count < 3:
        with pytest.raises(BadInput):
            choose("minority", members, chance=random.Random(seed))
        return
    minority = choose("minority", members, chance=random.Random(seed))
    assert 0 < 2 * len(minority) < count <= 2 * (len(minority) + 1)


@given(st.integers(1, 9), st.integers())
def test_a_choice_is_repeated_by_its_seed(count: int, seed: int) -> None:
    """Equal seeds choose equal nodes, each at most once and in the order of the members."""
    members = refs(count)
    for spec in ("one", "majority", "all"):
        found = choose(spec, members, chance=random.Random(seed))
        assert found == choose(spec, members, chance=random.Random(seed))
        assert [one.name for one in found] == sorted({one.name for one in found})


def test_every_node_may_be_chosen() -> None:
    """Over seeds, nobody is spared."""
    members = refs(5)
    assert {choose("one", members, chance=random.Random(seed))[0].name for seed in range(200)} == {one.name for one in members}


def test_roles_need_a_primary() -> None:
    """The primary and the replicas are told apart by the system; without one both words are refused, and so is any other word."""
    members = refs(3)
    assert choose("primary", members, chance=random.Random(0), primary=members[1]) == (members[1],)
    assert choose("replicas", members, chance=random.Random(0), primary=members[1]) == (members[0], members[2])
    for spec in ("primary", "replicas", "most"):
        with pytest.raises(BadInput, match=spec):
            choose(spec, members, chance=random.Random(0))


def test_stages_of_compositions() -> None:
    """Only the last stage lasts; a sequence holds each, a repeat spaces them by what is asked."""
    one, two = Noop(refs(2)[0]), Noop(refs(2)[1])
    assert [(stage.parts, stage.hold_s) for stage in Together(one, two).stages()] == [((one, two), None)]
    stages = Sequence(one, two, hold="2s", pause=1).stages()
    assert [(s.parts, s.hold_s, s.pause_s) for s in stages] == [((one,), 2.0, 1.0), ((two,), None, 0.0)]
    assert [(s.hold_s, s.pause_s) for s in Repeat(one, every="3s", times=3, hold=1).stages()] == [(1.0, 2.0), (1.0, 2.0), (None, 0.0)]
    assert list(faults_of(Sequence(Together(one, two), Repeat(two, every=1, times=2), hold=1))) == [one, two, two, two]


@pytest.mark.parametrize(
    "make",
    [
        lambda one: Together(),
        lambda one: Sequence(hold=1),
        lambda one: Sequence(one, hold=0),
        lambda one: Repeat(one, every=1, times=0),
        lambda one: Repeat(one, every=1, times=2, hold=1),
        lambda one: Repeat(one, every="soon", times=2),
    ],
)
def test_compositions_that_make_no_sense_are_refused(make: object) -> None:
    """Nothing to inject, no time to hold it, or no time left between."""
    with pytest.raises(BadInput):
        make(Noop(refs(1)[0]))  # type: ignore[operator]
