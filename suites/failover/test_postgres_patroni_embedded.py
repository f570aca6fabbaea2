"""The primary fails under real Patroni, on micro-hosts: what a laptop can say about the manager that production runs.

The budgets are Patroni's arithmetic: an unreachable primary keeps its lease for ttl (5 s here), and the next one takes up to loop_wait and
retry_timeout (1 s, 2 s) more; a server that died on a live machine is restarted in place within a loop or two.
"""

import pytest

from chaos import Kill, PowerLoss

pytestmark = pytest.mark.postgres(replication="sync", manager="patroni")


@pytest.mark.drill("db-primary-failure", rto="30s", rpo=0, environments=["embedded"])
def test_primary_power_loss_under_patroni(drill, postgres):
    """Patroni promotes the synchronous standby and no acknowledged write is lost when the primary loses power."""
    writes = drill.workload(postgres.appends(rate=100, timeout_s=0.5))
    with drill.inject(PowerLoss(postgres.primary)):
        writes.wait_recovered()


@pytest.mark.drill("db-primary-failure", rto="30s", rpo=0, environments=["embedded"])
def test_postmaster_kill_under_patroni(drill, postgres):
    """Patroni restarts a killed postmaster where it was, and no acknowledged write is lost."""
    writes = drill.workload(postgres.appends(rate=100, timeout_s=0.5))
    with drill.inject(Kill(postgres.primary, process="postgres")):
        writes.wait_recovered()
