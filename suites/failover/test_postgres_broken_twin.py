"""The broken twin of ``db-primary-failure``: a design that loses writes must be convicted, with the losses counted."""

import pytest

from chaos import Partition, PowerLoss


@pytest.mark.postgres(replication="async")
@pytest.mark.drill("db-primary-failure", rto="20s", rpo=0, expect="FAIL", because="rpo")
def test_asynchronous_replica_cut_off_before_the_power_loss(drill, postgres):
    """Asynchronous replication with the replicas cut off for a second before the power loss loses acknowledged writes."""
    writes = drill.workload(postgres.appends(rate=200))
    primary, replicas = postgres.primary, postgres.replicas
    with drill.inject(Partition.between(primary, replicas)):
        drill.observe(1.0)
        with drill.inject(PowerLoss(primary), cause=True):
            writes.wait_recovered()
