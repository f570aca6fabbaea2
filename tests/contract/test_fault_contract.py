"""The contract of a fault, for every registered fault in every environment: journalled first, proven both ways, undone from data alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from contract_places import EXAMPLES, Place, registered
from contract_tools import Bare, Interrupting, injected, land, proven_healed, respied

from chaos.core.clock import wait_for
from chaos.core.errors import BadInput, EnvironmentFailed, FaultNotLanded, GamedayError, HealFailed, Unavailable
from chaos.core.model import FaultState, NodeRef, Undo
from chaos.engine.journal import Journal, open_faults, read_journal
from chaos.environments.base import DropRule, Freeze, PacketFilter, Power, Services, require
from chaos.faults.base import Fault, Resolve
from chaos.faults.kill import Kill
from chaos.faults.noop import Noop
from chaos.faults.partition import Partition
from chaos.faults.pause import Pause
from chaos.faults.power_loss import PowerLoss
from chaos.faults.stop import Stop


def test_every_registered_fault_is_under_contract() -> None:
    """No fault is installed without an example in this suite, and each is registered under its own name."""
    assert set(registered()) == set(EXAMPLES)
    assert {name: kind.kind for name, kind in registered().items()} == {name: name for name in EXAMPLES}


def test_a_fault_is_data(place: Place, fault: Fault) -> None:
    """It survives JSON with its targets, and what it says of itself is what a registry and a guard need."""
    again = msgspec.json.decode(msgspec.json.encode(fault), type=type(fault))
    assert again == fault and again.targets == fault.targets and again.params() == fault.params()
    assert "fixture" in fault.nets and set(fault.nets) <= {"fixture", "healer", "dead-man"}
    assert fault.version >= 1 and fault.landed_within_s > 0 and fault.healed_within_s > 0


def test_the_journal_holds_a_self_contained_undo_before_the_effect(place: Place, fault: Fault, journal: Journal) -> None:
    """At the moment of injection the file has the intent, and no more than plain JSON is needed to read it; the nodes are untouched."""
    before = place.states()
    seen: list[Undo] = []

    def inject(self: Any, undo: Undo, resolve: Resolve) -> None:
        records, torn = read_journal(journal.path)
        assert not torn and [record.state for record in records] == [FaultState.PLANNED]
        assert place.states() == before
        seen.extend(open_faults(records))
        fault.inject(undo, resolve)

    running = injected(respied(fault, inject=inject), place.resolve, journal)
    running.inject("a drill")
    running.heal()
    assert (
        [undo.fault_id for undo in seen] == ["test-1"]
        and seen[0].kind == fault.kind
        and all(target in seen[0].nodes for target in fault.targets)
    )
    records, _ = read_journal(journal.path)
    assert [record.state for record in records] == [FaultState.PLANNED, FaultState.LANDED, FaultState.VERIFIED]
    assert open_faults(records) == [] and running.record.landed_proof and running.record.healed_proof


def test_landed_and_healed_are_observed(place: Place, fault: Fault) -> None:
    """No proof before the effect, one after it; healed only when the nodes are as before, and then they are."""
    before = place.states()
    undo = fault.plan("test-2", place.resolve)
    assert place.states() == before
    if not isinstance(fault, Noop):
        assert fault.landed(undo, place.resolve) is None
    proof = land(fault, undo, place.resolve)
    assert proof.text and proof.observed_ns > 0
    if not isinstance(fault, Noop):
        assert type(fault).healed(undo, place.resolve) is None and place.states() != before
    type(fault).heal(undo, place.resolve)
    assert proven_healed(type(fault), undo, place.resolve).text
    if not isinstance(fault, Noop):
        assert fault.landed(undo, place.resolve) is None or isinstance(fault, Kill)  # the killed process stays dead
    wait_for(lambda: place.states() == before, timeout_s=10, what="the nodes to be as before", interval_s=0.05)


def test_heal_is_idempotent_and_a_no_op_where_nothing_was_injected(place: Place, fault: Fault) -> None:
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
    wait_for(lambda: place.states() == before, timeout_s=10, what="the nodes to be as before", interval_s=0.05)


def test_undo_needs_nothing_but_the_journal(place: Place, fault: Fault, journal: Journal) -> None:
    """From the file's bytes, the registry and a fresh resolve, another process could put it back."""
    before = place.states()
    running = injected(fault, place.resolve, journal)
    running.inject("a drill")
    content = journal.path.read_bytes()
    del running
    elsewhere = journal.path.with_name("copy.jsonl")
    elsewhere.write_bytes(content)
    for undo in reversed(open_faults(read_journal(elsewhere)[0])):
        kind = registered()[undo.kind]
        kind.heal(undo, place.resolve)
        proven_healed(kind, undo, place.resolve)
    wait_for(lambda: place.states() == before, timeout_s=10, what="the nodes to be as before", interval_s=0.05)


def test_an_interruption_anywhere_within_injection_heals(place: Place, fault: Fault, tmp_path: Path) -> None:
    """Ctrl-C before and after each change that injection makes, one after the other: healing puts everything back."""
    before = place.states()
    for moment in range(1, 100):
        interrupting = Interrupting(place.resolve, moment)
        journal = Journal(tmp_path / f"{moment}.jsonl")
        running = injected(respied(fault, inject=lambda self, undo, _: fault.inject(undo, interrupting)), place.resolve, journal)  # noqa: B023
        try:
            running.inject("a drill")
        except KeyboardInterrupt:
            assert running.open and len(open_faults(read_journal(journal.path)[0])) == 1
        running.heal()
        wait_for(lambda: place.states() == before, timeout_s=10, what="the nodes to be as before", interval_s=0.05)
        assert not running.open and open_faults(read_journal(journal.path)[0]) == []
        journal.close()
        if not interrupting.happened:
            break
    assert moment > 2 or isinstance(fault, Noop), "nothing was interrupted"


def test_a_node_that_rebooted_meanwhile_is_healed(place: Place, fault: Fault, journal: Journal) -> None:
    """Between injection and healing somebody else cuts the power and boots: the node is found again and ends as before."""
    before = place.states()
    running = injected(fault, place.resolve, journal)
    running.inject("a drill")
    node = place.resolve(fault.targets[0])
    require(node, Power, for_what="this test").power_off()
    require(place.resolve(fault.targets[0]), Power, for_what="this test").power_on()
    running.heal()
    wait_for(lambda: place.states() == before, timeout_s=10, what="the nodes to be as before", interval_s=0.05)
    assert running.record.verified_ns is not None


def test_a_node_without_the_capability_is_refused_with_its_name(place: Place, fault: Fault, journal: Journal) -> None:
    """Nothing is journalled and nothing touched; the error names the capability, so that a run may require it."""
    if isinstance(fault, Noop):
        pytest.skip("noop needs no capability")
    running = injected(fault, Bare, journal)
    with pytest.raises(Unavailable, match="lacks") as refused:
        running.inject("a drill")
    assert refused.value.capability and refused.value.next_step
    assert read_journal(journal.path) == ([], False) and not running.open


def test_an_effect_that_is_not_observed_has_not_landed(place: Place, fault: Fault, journal: Journal) -> None:
    """A fault that does nothing is convicted by its own proof, and healing it is safe."""
    if isinstance(fault, Noop):
        pytest.skip("noop lands by doing nothing")
    before = place.states()
    idle = respied(fault, inject=lambda *_: None, landed_within_s=0.3)
    running = injected(idle, place.resolve, journal)
    with pytest.raises(FaultNotLanded, match="not observed"):
        running.inject("a drill")
    assert running.open and running.record.landed_ns is None
    running.heal()
    assert not running.open and place.states() == before


def test_a_heal_that_fails_at_first_is_tried_again(place: Place, fault: Fault, journal: Journal) -> None:
    """One refusal by the environment in the middle of healing costs nothing but time."""
    before = place.states()
    running = injected(fault, place.resolve, journal)
    running.inject("a drill")
    refusing = Interrupting(place.resolve, 1, EnvironmentFailed)
    running._resolve = refusing
    running.heal()
    assert refusing.moments >= 2 or isinstance(fault, Noop)
    wait_for(lambda: place.states() == before, timeout_s=10, what="the nodes to be as before", interval_s=0.05)


def test_two_faults_of_one_id_are_refused(place: Place, journal: Journal) -> None:
    """The second is refused before its effect: the healing of one must not hide the other."""
    a, b, _ = place.refs
    first = injected(Pause(a), place.resolve, journal, "same")
    first.inject("a drill")
    second = injected(Pause(b), place.resolve, journal, "same")
    with pytest.raises(GamedayError, match="'same' already"):
        second.inject("a drill")
    assert not require(place.resolve(b), Freeze, for_what="this test").frozen() and not second.open
    first.heal()


def test_a_heal_that_cannot_be_done_stays_open(place: Place, journal: Journal) -> None:
    """Healing fails with what was seen, and the journal names the fault as still in place, until it is healed after all."""
    a = place.refs[0]
    running = injected(Pause(a), place.resolve, journal)
    running.inject("a drill")

    def nowhere(ref: NodeRef) -> Any:
        raise EnvironmentFailed("no such node", where=str(ref))

    running._resolve = nowhere
    with pytest.raises(HealFailed, match="no such node"):
        running.heal()
    assert running.open and [undo.nodes for undo in open_faults(read_journal(journal.path)[0])] == [(a,)]
    running._resolve = place.resolve
    running.heal()
    assert not running.open and open_faults(read_journal(journal.path)[0]) == []


def test_faults_within_faults_heal_last_in_first_out(place: Place, journal: Journal) -> None:
    """A partition, a stop, a freeze and a power loss of one node, each within the one before: all healed, every state as it was."""
    a, b, c = place.refs
    before = place.states()
    faults: list[Fault] = [Partition.between(a, [b]), Stop(a), Partition.between(a, [c]), Pause(a)]
    running = [injected(fault, place.resolve, journal, f"nested-{number}") for number, fault in enumerate(faults)]
    for one in running:
        one.inject("a drill")
    assert len(open_faults(read_journal(journal.path)[0])) == len(faults)
    for one in reversed(running):
        one.heal()
    assert open_faults(read_journal(journal.path)[0]) == []
    wait_for(lambda: place.states() == before, timeout_s=10, what="the nodes to be as before", interval_s=0.05)


def test_power_loss_within_a_partition_heals(place: Place, journal: Journal) -> None:
    """Whether or not the node's kernel remembers packet rules over a reboot, both faults are healed and proven so."""
    a, b, _ = place.refs
    before = place.states()
    faults: list[Fault] = [Partition.between(a, [b]), PowerLoss(a)]
    running = [injected(fault, place.resolve, journal, f"nested-{fault.kind}") for fault in faults]
    for one in running:
        one.inject("a drill")
    for one in reversed(running):
        one.heal()
    wait_for(lambda: place.states() == before, timeout_s=10, what="the nodes to be as before", interval_s=0.05)


def test_foreign_state_is_refused(place: Place) -> None:
    """A node that is frozen, off, stopped or dropping already, and not by us, is left alone."""
    a, b, _ = place.refs
    resolve = place.resolve
    require(resolve(a), Freeze, for_what="this test").freeze()
    with pytest.raises(EnvironmentFailed, match="frozen already"):
        Pause(a).plan("test", resolve)
    require(resolve(a), Freeze, for_what="this test").thaw()
    require(resolve(a), Services, for_what="this test").stop_service("sleeper")
    with pytest.raises(EnvironmentFailed, match="no service to stop runs"):
        Stop(a).plan("test", resolve)
    require(resolve(a), PacketFilter, for_what="this test").drop("test", [DropRule(inbound=True, peers=(resolve(b).address,))])
    with pytest.raises(EnvironmentFailed, match="under the tag test"):
        Partition.between(a, [b]).plan("test", resolve)
    with pytest.raises(EnvironmentFailed, match="no packet passes"):
        Partition.between(a, [b]).plan("another", resolve)
    require(resolve(a), Power, for_what="this test").power_off()
    with pytest.raises(EnvironmentFailed, match="without power already"):
        PowerLoss(a).plan("test", resolve)


def test_what_makes_no_sense_is_bad_input(place: Place) -> None:
    """A service that there is not, and a partition of a node from itself, are refused before anything is touched."""
    a, b, _ = place.refs
    with pytest.raises(BadInput, match="no service 'nonsense'"):
        Stop(a, service="nonsense").plan("test", place.resolve)
    with pytest.raises(BadInput, match="no process named 'nonsense' runs"):
        Kill(a, process="nonsense").plan("test", place.resolve)
    for wrong in (Partition((a,), ()), Partition((a, b), (b,))):
        with pytest.raises(BadInput, match="two sides"):
            wrong.plan("test", place.resolve)
