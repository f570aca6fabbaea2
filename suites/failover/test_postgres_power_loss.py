"""The primary's machine loses power: nobody says goodbye, nothing answers."""

import pytest

from chaos import PowerLoss


@pytest.mark.drill("db-primary-failure", rto="15s", rpo=0)
def test_primary_power_loss(drill, postgres):
    """A replica takes over and no acknowledged write is lost when the primary loses power."""
    writes = drill.workload(postgres.appends(rate=200, timeout_s=0.4))
    with drill.inject(PowerLoss(postgres.primary)):
        writes.wait_recovered()
