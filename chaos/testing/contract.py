"""``FaultContract``: what every fault must keep, in every place, as a test class to be subclassed. See ``docs/writing-faults.md``.

Not the crash matrix (see ``crash``): here nothing dies, and every process is this one.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from chaos.core.clock import wait_for
from chaos.core.errors import EnvironmentFailed, FaultNotLanded, Unavailable
from chaos.core.model import STEPS, FaultState, Undo
from chaos.engine.journal import Journal, open_faults, read_journal
from chaos.environments.base import Power, require
from chaos.faults.base import Fault, Resolve
from chaos.testing.grounds import OnPlaces, not_here
from chaos.testing.places import Catalogue, Place, always, none_left
from chaos.testing.tools import Bare, Interrupting, injected, land, proven_healed, respied, take

NETS = {"fixture", "healer", "dead-man"}
MOST_MOMENTS = 200


class FaultContract(OnPlaces):
    """Every test takes ``place`` (three nodes) and ``fault`` (one example on them).

    ::

        class TestMyFaults(FaultContract):
            catalogue = "places.py"
    """

    def test_a_fault_is_data(self, place: Place, fault: Fault) -> None:
        """It survives JSON with its targets, and what it says of itself is what a registry and a guard need."""
        again = msgspec.json.decode(msgspec.json.encode(fault), type=type(fault))
        assert again == fault and again.targets == fault.targets and again.params() == fault.params()
        assert "fixture" in fault.nets and set(fault.nets) <= NETS
        assert fault.kind and fault.version >= 1 and fault.landed_within_s > 0 and fault.healed_within_s > 0

    def test_the_journal_holds_a_self_contained_undo_before_the_effect(self, place: Place, fault: Fault, journal: Journal) -> None:
        """At the moment of injection the file has the intent, and no more than plain JSON is needed to read it; the nodes are untouched."""
        before = place.states()
        seen: list[Undo] = []

        def inject(self: Any, undo: Undo, resolve: Resolve) -> None:
            records, torn = read_journal(Path(journal.where))
            assert not torn and [record.state for record in records] == [FaultState.PLANNED]
            assert place.states() == before
            seen.extend(open_faults(records))
            fault.inject(undo, resolve)

        running = injected(respied(fault, inject=inject), place.resolve, journal)
        running.inject("a drill")
        running.heal()
        assert [undo.fault_id for undo in seen] == ["test-1"] and seen[0].kind == fault.kind
        assert all(target in seen[0].nodes for target in fault.targets), "a node that the fault acts on is missing in its undo"
        records, _ = read_journal(Path(journal.where))
        assert [record.state for record in records] == [FaultState.PLANNED, FaultState.LANDED, FaultState.VERIFIED]
        assert open_faults(records) == [] and running.record.landed_proof and running.record.healed_proof

    def test_landed_and_healed_are_observed(self, place: Place, fault: Fault) -> None:
        """No proof before the effect, one after it; healed only when the nodes are as before, and then they are."""
        known = self.told()
        before = place.states()
        undo = fault.plan("test-2", place.resolve)
        assert place.states() == before, "plan changed a node"
        if fault.kind != "noop":
            assert fault.landed(undo, place.resolve) is None, "landed before anything was done"
        proof = land(fault, undo, place.resolve)
        assert proof.text and proof.observed_ns > 0
        if not known.soon_over(place.name, fault.kind):
            assert type(fault).healed(undo, place.resolve) is None, "healed while it is in place"
            assert (place.states() != before) is (fault.kind not in known.unseen)
        type(fault).heal(undo, place.resolve)
        assert proven_healed(type(fault), undo, place.resolve).text
        if fault.kind != "noop":
            assert fault.landed(undo, place.resolve) is None or fault.kind in known.lasting, "still landed after its heal"
        as_before(place, before)

    def test_heal_is_idempotent_and_a_no_op_where_nothing_was_injected(self, place: Place, fault: Fault) -> None:
        """Twice before the effect, and twice after it, the nodes end as they began."""
        before = place.states()
        undo = fault.plan("test-3", place.resolve)
        for _ in range(2):
            type(fault).heal(undo, place.resolve)
            assert place.states() == before and type(fault).healed(undo, place.resolve)
        land(fault, undo, place.resolve)
        for _ in range(2):
            type(fault).heal(undo, place.resolve)
            proven_healed(type(fault), undo, place.resolve)
        as_before(place, before)

    def test_undo_needs_nothing_but_the_journal(self, place: Place, fault: Fault, journal: Journal) -> None:
        """From the file's bytes, the fault's code loaded anew and a fresh resolve, another process could put it back."""
        before = place.states()
        running = injected(fault, place.resolve, journal)
        running.inject("a drill")
        content = Path(journal.where).read_bytes()
        del running
        elsewhere = Path(journal.where).with_name("copy.jsonl")
        elsewhere.write_bytes(content)
        for undo in reversed(open_faults(read_journal(elsewhere)[0])):
            assert undo.kind == fault.kind
            kind = forgetful(type(fault))
            kind.heal(undo, place.resolve)
            proven_healed(kind, undo, place.resolve)
        as_before(place, before)

    def test_the_steps_of_a_dead_mans_switch_alone_put_it_back(self, place: Place, fault: Fault) -> None:
        """What a switch beside the node does, twice and without the fault, is healing too; before the effect it is nothing."""
        if "dead-man" not in fault.nets:
            pytest.skip(f"{fault.kind} does not declare the net dead-man")
        before = place.states()
        undo = fault.plan("test-4", place.resolve)
        assert undo.steps and all(step.do in STEPS for step in undo.steps)
        take(undo, place.resolve)
        assert place.states() == before and type(fault).healed(undo, place.resolve)
        land(fault, undo, place.resolve)
        for _ in range(2):
            take(undo, place.resolve)
            proven_healed(type(fault), undo, place.resolve)
        as_before(place, before)

    def test_an_interruption_anywhere_within_injection_heals(self, place: Place, fault: Fault, tmp_path: Path) -> None:
        """Ctrl-C before and after each change that injection makes, one after the other: healing puts everything back."""
        before = place.states()
        for moment in range(1, MOST_MOMENTS):
            interrupting = Interrupting(place.resolve, moment)
            journal = Journal(tmp_path / f"{moment}.jsonl")
            running = injected(respied(fault, inject=lambda self, undo, _: fault.inject(undo, interrupting)), place.resolve, journal)  # noqa: B023
            try:
                running.inject("a drill")
            except KeyboardInterrupt:
                assert running.open and len(open_faults(read_journal(Path(journal.where))[0])) == 1
            running.heal()
            as_before(place, before)
            assert not running.open and open_faults(read_journal(Path(journal.where))[0]) == []
            journal.close()
            if not interrupting.happened:
                break
        assert moment > 2 or fault.kind == "noop", "nothing was interrupted"

    def test_a_node_that_rebooted_meanwhile_is_healed(self, place: Place, fault: Fault, journal: Journal) -> None:
        """Between injection and healing somebody else cuts the power and boots: the node is found again and ends as before."""
        try:
            require(place.resolve(fault.targets[0]), Power, for_what="this test")
        except Unavailable as err:
            not_here(err, place.name)
        before = place.states()
        running = injected(fault, place.resolve, journal)
        running.inject("a drill")
        require(place.resolve(fault.targets[0]), Power, for_what="this test").power_off()
        require(place.resolve(fault.targets[0]), Power, for_what="this test").power_on()
        running.heal()
        as_before(place, before)
        assert running.record.verified_ns is not None

    def test_a_node_without_the_capability_is_refused_with_its_name(self, place: Place, fault: Fault, journal: Journal) -> None:
        """Nothing is journalled and nothing touched; the error names the capability, so that a run may require it."""
        if fault.kind == "noop":
            pytest.skip("noop needs no capability")
        running = injected(fault, Bare, journal)
        with pytest.raises(Unavailable, match="lacks") as refused:
            running.inject("a drill")
        assert refused.value.capability and refused.value.next_step
        assert read_journal(Path(journal.where)) == ([], False) and not running.open

    def test_an_effect_that_is_not_observed_has_not_landed(self, place: Place, fault: Fault, journal: Journal) -> None:
        """A fault that does nothing is convicted by its own proof, and healing it is safe."""
        if fault.kind == "noop":
            pytest.skip("noop lands by doing nothing")
        before = place.states()
        idle = respied(fault, inject=lambda *_: None, landed_within_s=0.3)
        running = injected(idle, place.resolve, journal)
        with pytest.raises(FaultNotLanded, match="not observed"):
            running.inject("a drill")
        assert running.open and running.record.landed_ns is None
        running.heal()
        assert not running.open and place.states() == before

    def test_a_heal_that_fails_at_first_is_tried_again(self, place: Place, fault: Fault, journal: Journal) -> None:
        """One refusal by the environment in the middle of healing costs nothing but time."""
        before = place.states()
        running = injected(fault, place.resolve, journal)
        running.inject("a drill")
        refusing = Interrupting(place.resolve, 1, EnvironmentFailed)
        running._resolve = refusing
        running.heal()
        assert refusing.moments >= 2 or fault.kind == "noop" or self.told().soon_over(place.name, fault.kind)
        as_before(place, before)

    @classmethod
    def told(cls) -> Catalogue:
        """What the catalogue says of kinds; nothing where there is none."""
        return cls.known() if cls.catalogue else Catalogue(Path(), {}, {}, always, none_left)


def as_before(place: Place, before: object, within_s: float = 10.0) -> None:
    """Wait until all nodes are as they were."""
    wait_for(lambda: place.states() == before, timeout_s=within_s, what="the nodes to be as before", interval_s=0.05)


def forgetful(kind: type[Fault]) -> type[Fault]:
    """The same class as another process would have it: its module run anew, so that nothing which this one keeps in it is there."""
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    if file is None or "<locals>" in kind.__qualname__:
        return kind
    spec = importlib.util.spec_from_file_location(kind.__module__, file)
    if spec is None or spec.loader is None:
        return kind
    anew = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(anew)
    found: Any = anew
    for name in kind.__qualname__.split("."):
        found = getattr(found, name)
    return cast("type[Fault]", found)
