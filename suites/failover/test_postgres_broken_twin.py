"""The broken twins: for each drill of this suite a design, or an expectation, that must be convicted for the stated reason."""

import pytest

from chaos import Kill, Partition, Pause, PowerLoss, Stop

ASYNCHRONOUS = pytest.mark.postgres(replication="async")


def cut_off_then(drill, postgres, fault):
    """A second of writes that reach no replica, and then ``fault``, which makes one of them the primary: that second is gone."""
    writes = drill.workload(postgres.appends(rate=200))
    with drill.inject(Partition.between(postgres.primary, postgres.replicas)):
        drill.observe(1.0)
        with drill.inject(fault, cause=True):
            writes.wait_recovered()


@ASYNCHRONOUS
@pytest.mark.drill("db-primary-failure", rto="20s", rpo=0, expect="FAIL", because="rpo")
def test_asynchronous_power_loss(drill, postgres):
    """Asynchronous replication with the replicas cut off for a second before the power loss loses acknowledged writes."""
    cut_off_then(drill, postgres, PowerLoss(postgres.primary))


@ASYNCHRONOUS
@pytest.mark.drill("db-primary-failure", rto="20s", rpo=0, expect="FAIL", because="rpo")
def test_asynchronous_freeze(drill, postgres):
    """Asynchronous replication with the replicas cut off for a second before the freeze loses acknowledged writes."""
    cut_off_then(drill, postgres, Pause(postgres.primary))


@ASYNCHRONOUS
@pytest.mark.drill("db-primary-failure", rto="20s", rpo=0, expect="FAIL", because="rpo")
def test_asynchronous_isolation(drill, postgres):
    """Asynchronous replication with the replicas cut off for a second before the isolation loses acknowledged writes."""
    writes = drill.workload(postgres.appends(rate=200))
    primary, replicas = postgres.primary, postgres.replicas
    rest = [peer for peer in postgres.peers(primary) if peer.name not in {replica.name for replica in replicas}]
    with drill.inject(Partition.between(primary, replicas)):
        drill.observe(1.0)
        with drill.inject(Partition.isolate(primary, rest), cause=True):
            writes.wait_recovered()


@ASYNCHRONOUS
@pytest.mark.drill("db-primary-failure", rto="20s", rpo=0, expect="FAIL", because="rpo", environments=["embedded"])
def test_asynchronous_postmaster_kill(drill, postgres):
    """Under the witness, which does not restart a server, the same happens when only the postmaster is killed."""
    cut_off_then(drill, postgres, Kill(postgres.primary, process="postgres"))


@ASYNCHRONOUS
@pytest.mark.drill("db-primary-failure", rto="20s", rpo=0, expect="FAIL", because="rpo", environments=["embedded"])
def test_asynchronous_stop(drill, postgres):
    """Under the witness the same happens even when the primary is stopped in the orderly way."""
    cut_off_then(drill, postgres, Stop(postgres.primary))


@pytest.mark.drill("db-primary-failure", rto="6s", rpo=0, expect="FAIL", because="rto", environments=["embedded"])
def test_power_loss_without_a_witness(drill, postgres):
    """Without anybody to promote a replica the service does not come back while the primary has no power."""
    writes = drill.workload(postgres.appends(rate=200))
    primary, witness = postgres.primary, postgres.nodes["witness"].ref
    with drill.inject(Stop(witness)), drill.inject(PowerLoss(primary), cause=True):
        writes.wait_recovered()


@pytest.mark.drill(rto="3s", rpo=0, expect="FAIL", because="rto", environments=["embedded"])
def test_writes_wait_longer_than_a_client_may(drill, postgres):
    """Synchronous writes that wait for a replica five seconds long break a budget of three."""
    drill.workload(postgres.appends(rate=200))
    with drill.inject(Partition.between(postgres.primary, postgres.replicas)):
        drill.observe(5.0)


@ASYNCHRONOUS
@pytest.mark.drill("network-partition", rto="20s", rto_from="fault", rpo=0, expect="FAIL", because="rpo", environments=["docker"])
def test_asynchronous_primary_cut_off_from_its_peers(drill, postgres):
    """Asynchronously, an old primary that clients still reach acknowledges writes which are gone when it rejoins."""
    writes = drill.workload(postgres.appends(rate=200))
    drill.workload(postgres.appends(rate=100, sticky=True))
    with drill.inject(Partition.between(postgres.primary, postgres.peers(postgres.primary))):
        writes.wait_recovered()
