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


@pytest.mark.drill("network-partition", rto="10s", rto_from="heal", rpo=0)
def test_primary_cut_off_from_its_replicas(drill, postgres):
    """Synchronous writes wait, since whoever manages the cluster still sees the primary and nobody fails over; after the heal they go on.

    (Under Patroni they would go on without a heal too, when ``wal_sender_timeout`` has passed, a minute by default.
    Each write that a client gave up leaves a server process that waits on, hence the lower rate.)
    """
    drill.workload(postgres.appends(rate=50))
    with drill.inject(Partition.between(postgres.primary, postgres.replicas)), drill.phase("writes wait"):
        drill.observe(5.0)


@pytest.mark.drill("network-partition", rto="20s", rto_from="fault", rpo=0, environments=["docker"])
def test_primary_cut_off_from_its_peers(drill, postgres):
    """Patroni makes another node the primary and no acknowledged write is lost, although clients still reach the old one."""
    writes = drill.workload(postgres.appends(rate=100))
    drill.workload(postgres.appends(rate=50, sticky=True))
    with drill.inject(Partition.between(postgres.primary, postgres.peers(postgres.primary))):
        writes.wait_recovered()
