"""The primary lives and works, but packets to and from it vanish."""

import pytest

from chaos import Partition


@pytest.mark.drill("db-primary-failure", rto="20s", rpo=0)
def test_primary_cut_off_from_everybody(drill, postgres):
    """A replica takes over and no acknowledged write is lost when nobody reaches the primary."""
    writes = drill.workload(postgres.appends(rate=200))
    drill.workload(postgres.appends(rate=50, sticky=True))
    with drill.inject(Partition.isolate(postgres.primary, postgres.replicas)):
        writes.wait_recovered()


@pytest.mark.drill("network-partition", rto="10s", rto_from="heal", rpo=0, environments=["embedded"])
def test_primary_cut_off_from_its_replicas_under_a_witness(drill, postgres):
    """Synchronous writes wait, because the witness still sees the primary: nobody fails over; after the heal they go on."""
    drill.workload(postgres.appends(rate=200))
    with drill.inject(Partition.between(postgres.primary, postgres.replicas)), drill.phase("writes wait"):
        drill.observe(5.0)


@pytest.mark.drill("network-partition", rto="20s", rto_from="fault", rpo=0, environments=["docker"])
def test_primary_cut_off_from_its_peers(drill, postgres):
    """Patroni makes another node the primary and no acknowledged write is lost, although clients still reach the old one."""
    writes = drill.workload(postgres.appends(rate=200))
    drill.workload(postgres.appends(rate=50, sticky=True))
    with drill.inject(Partition.between(postgres.primary, postgres.peers(postgres.primary))):
        writes.wait_recovered()
