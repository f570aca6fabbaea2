"""What the engine keeps for everybody who drills on its containers: the lease swaps atomically, the kill switch stops."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attach_containers import Project

from chaos.engine.lease import LeaseHeld, LeaseHolder, LeaseLost
from chaos.engine.switch import KillSwitch
from chaos.environments.docker.attach import DockerAttach
from chaos.environments.standing import HoldsLease, HoldsStop, LeaseStore

pytestmark = pytest.mark.docker_engine


@pytest.fixture
def environment(project: Project, tmp_path: Path) -> Iterator[DockerAttach]:
    """It, attached to, without a lease and without a stop."""
    environment = DockerAttach(project=project.name, name="staging")
    environment.open(run_id="test", state_dir=tmp_path)
    try:
        yield environment
    finally:
        store = environment.lease_store()
        store.swap(store.read(), None)
        environment.clear_stop()
        environment.close()


DIES_WITH_A_LEASE = """
from chaos.engine.lease import LeaseHolder
LeaseHolder(environment.lease_store(), run="dead", by="somebody", drill="test", ttl_s=3600.0).take()
os.kill(os.getpid(), 9)
"""
DIES_BEFORE_THE_START = """
doors = environment._doorway()
environment._client().api.start = lambda *_: os.kill(os.getpid(), 9)
node = next(iter(environment.nodes().values()))
doors._open(node._routed(), "network")
"""


@pytest.mark.parametrize("last_act", [DIES_WITH_A_LEASE, DIES_BEFORE_THE_START], ids=["lease", "door"])
def test_what_a_dead_run_left_is_swept_by_the_next(environment: DockerAttach, project: Project, last_act: str) -> None:
    """Killed with a lease in hand, or between making a helper and starting it: it is there, and the next start removes it; what a living
    process made stays."""
    store = environment.lease_store()
    begin = f"import os\nfrom chaos.environments.docker.attach import DockerAttach\nenvironment = DockerAttach(project={project.name!r})\n"
    done = subprocess.run([sys.executable, "-c", begin + last_act], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -9, done.stderr
    assert len(never_started(project)) == 1
    assert len(environment.reclaim()) == 1 and never_started(project) == []
    assert store.swap(None, b"ours") and environment.reclaim() == [] and store.read() == b"ours"


def never_started(project: Project) -> list[str]:
    """Containers of ours that only exist."""
    found = project.api.containers(all=True, filters={"status": "created", "label": "org.pytest-gameday.attach"})
    return [str(one["Names"][0]) for one in found]


def _holder(store: LeaseStore, run: str) -> LeaseHolder:
    return LeaseHolder(store, run=run, by=f"somebody of {run}", drill="test", ttl_s=30.0)


def test_the_record_is_swapped_only_where_it_is_as_the_swapper_saw_it(environment: DockerAttach) -> None:
    """A swap from another record, or from none where there is one, is refused and changes nothing."""
    store = environment.lease_store()
    assert store.read() is None
    assert store.swap(None, b"one")
    assert not environment.lease_store().swap(None, b"two")
    assert not store.swap(b"two", b"three")
    assert store.swap(b"one", b"four") and environment.lease_store().read() == b"four"
    assert store.swap(b"four", None) and store.read() is None


def test_of_many_who_take_it_at_once_at_most_one_has_it(environment: DockerAttach) -> None:
    """Twelve at once, three times over: never two succeed, and whoever did not can read who has it, or that nobody has."""
    for _ in range(3):
        stores = [environment.lease_store() for _ in range(12)]
        with ThreadPoolExecutor(12) as pool:
            took = list(pool.map(lambda pair: pair[1].swap(None, b"%d" % pair[0]), enumerate(stores)))
        winners = [b"%d" % number for number, won in enumerate(took) if won]
        now = stores[0].read()
        assert winners == ([] if now is None else [now])
        stores[0].swap(now, None)


def test_a_second_run_is_told_who_drills_there(environment: DockerAttach, project: Project) -> None:
    """While one run holds the lease another that attaches to the same containers is refused with its name; after it, it has its turn."""
    assert isinstance(environment, HoldsLease)
    first = _holder(environment.lease_store(), "first")
    first.take()
    first.renew()
    other = DockerAttach(project=project.name, name="the same by another name")
    second = _holder(other.lease_store(), "second")
    with pytest.raises(LeaseHeld, match="somebody of first"):
        second.take()
    first.give_back()
    second.take()
    with pytest.raises(LeaseLost):
        first.renew()
    second.give_back()
    other.close()
    left = project.api.containers(all=True, filters={"name": "gameday-lease-"})
    assert left == []


def test_a_volume_made_by_hand_stops_drills(environment: DockerAttach, project: Project) -> None:
    """Nothing but the volume's name is needed; its reason is told where it has one; removed, drills may go on."""
    assert isinstance(environment, HoldsStop)
    switch = KillSwitch(environment=environment, values={})
    assert switch.reaches_out and switch.engaged() == ""
    project.api.create_volume("gameday-stop")
    assert switch.engaged() == "the environment says: the volume gameday-stop is there"
    environment.clear_stop()
    environment.clear_stop()
    assert switch.engaged() == ""
    environment.request_stop("the database is on fire")
    assert "the database is on fire" in switch.engaged()
