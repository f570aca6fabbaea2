"""The same power loss under the newest Patroni, which takes no ttl below 20 s: what most production clusters would show."""

import pytest

from chaos import PowerLoss


@pytest.mark.postgres(patroni="latest")
@pytest.mark.drill("db-primary-failure", rto="60s", rpo=0, environments=["docker"])
def test_primary_power_loss_at_ttl_20(drill, postgres):
    """A replica takes over within a minute and no acknowledged write is lost under the newest Patroni at its shortest ttl."""
    writes = drill.workload(postgres.appends(rate=100))
    with drill.inject(PowerLoss(postgres.primary)):
        writes.wait_recovered()
