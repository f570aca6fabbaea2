"""The contract of a fault, for every registered fault in every environment, and what the engine makes of several faults at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from contract_places import EXAMPLES, registered

from chaos.core.clock import wait_for
from chaos.core.errors import BadInput, EnvironmentFailed, GamedayError, HealFailed
from chaos.core.model import NodeRef
from chaos.engine.journal import Journal, open_faults, read_journal
from chaos.environments.base import DropRule, Freeze, PacketFilter, Power, Services, require
from chaos.faults.base import Fault
from chaos.faults.kill import Kill
from chaos.faults.partition import Partition
from chaos.faults.pause import Pause
from chaos.faults.power_loss import PowerLoss
from chaos.faults.stop import Stop
from chaos.testing import FaultContract, Place
from chaos.testing.tools import injected


def test_every_registered_fault_is_under_contract() -> None:
    """No fault is installed without an example in this suite, and each is registered under its own name."""
    assert set(registered()) == set(EXAMPLES)
    assert {name: kind.kind for name, kind in registered().items()} == {name: name for name in EXAMPLES}


class TestMicroHosts(FaultContract):
    """Every example of every fault."""

    catalogue = "contract_places.py"
    only = ("embedded", "embedded-routes")


class TestContainers(FaultContract):
    """The first example of every fault."""

    catalogue = "contract_places.py"
    only = ("docker",)


class TestContainersOfSomebodyElse(FaultContract):
    """The first example of every fault, where nothing is ours but what we break."""

    catalogue = "contract_places.py"
    only = ("docker-attach",)


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
    assert running.open and [undo.nodes for undo in open_faults(read_journal(Path(journal.where))[0])] == [(a,)]
    running._resolve = place.resolve
    running.heal()
    assert not running.open and open_faults(read_journal(Path(journal.where))[0]) == []


def test_faults_within_faults_heal_last_in_first_out(place: Place, journal: Journal) -> None:
    """Two partitions, a stop and a freeze of one node, each within the one before: all healed, every state as it was."""
    a, b, c = place.refs
    before = place.states()
    stops = [] if place.name == "docker-attach" else [Stop(a)]  # there the service is the container, and its network ends with it
    faults: list[Fault] = [Partition.between(a, [b]), *stops, Partition.between(a, [c]), Pause(a)]
    running = [injected(fault, place.resolve, journal, f"nested-{number}") for number, fault in enumerate(faults)]
    for one in running:
        one.inject("a drill")
    assert len(open_faults(read_journal(Path(journal.where))[0])) == len(faults)
    for one in reversed(running):
        one.heal()
    assert open_faults(read_journal(Path(journal.where))[0]) == []
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
    require(resolve(a), PacketFilter, for_what="this test").drop("test", [DropRule(inbound=True, peers=(resolve(b).address,))])
    with pytest.raises(EnvironmentFailed, match="under the tag test"):
        Partition.between(a, [b]).plan("test", resolve)
    with pytest.raises(EnvironmentFailed, match="no packet passes"):
        Partition.between(a, [b]).plan("another", resolve)
    for service in require(resolve(a), Services, for_what="this test").services():
        require(resolve(a), Services, for_what="this test").stop_service(service)
    with pytest.raises(EnvironmentFailed, match="no service to stop runs"):
        Stop(a).plan("test", resolve)
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
