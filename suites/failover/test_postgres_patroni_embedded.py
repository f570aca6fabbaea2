"""The primary fails under real Patroni, on micro-hosts: what a laptop can say about the manager that production runs.

The budgets are Patroni's arithmetic. An unreachable primary keeps its lease for what is left of ttl (4 to 5 s here); then the standby asks
its REST API who is ahead and waits 2 s for an answer; where the Raft leader went down with the primary, an election comes on top. A server
that died on a live machine is restarted in place within a loop or two.
"""

import pytest

from chaos import Kill, Partition, PowerLoss

pytestmark = pytest.mark.postgres(replication="sync", manager="patroni")


@pytest.mark.drill("db-primary-failure", rto="20s", rpo=0, environments=["embedded"])
def test_primary_power_loss_under_patroni(drill, postgres):
    """Patroni promotes the synchronous standby and no acknowledged write is lost when the primary loses power."""
    writes = drill.workload(postgres.appends(rate=100, timeout_s=0.5))
    with drill.inject(PowerLoss(postgres.primary)):
        writes.wait_recovered()


@pytest.mark.drill("db-primary-failure", rto="15s", rpo=0, environments=["embedded"])
def test_postmaster_kill_under_patroni(drill, postgres):
    """Patroni restarts a killed postmaster where it was, and no acknowledged write is lost."""
    writes = drill.workload(postgres.appends(rate=100, timeout_s=0.5))
    with drill.inject(Kill(postgres.primary, process="postgres")):
        writes.wait_recovered()


@pytest.mark.postgres(replication="async", manager="patroni")
@pytest.mark.drill("db-primary-failure", rto="20s", rpo=0, expect="FAIL", because="rpo", environments=["embedded"])
def test_asynchronous_power_loss_under_patroni(drill, postgres):
    """The broken twin: asynchronously, writes of the second before the power loss that reached no replica are gone."""
    writes = drill.workload(postgres.appends(rate=100, timeout_s=0.5))
    with drill.inject(Partition.between(postgres.primary, postgres.replicas)):
        drill.observe(1.0)
        with drill.inject(PowerLoss(postgres.primary), cause=True):
            writes.wait_recovered()
