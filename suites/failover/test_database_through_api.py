"""The database's primary fails, seen by those who use the API: reads that the cache answers, and writes that only a primary can take."""

import pytest

from chaos import PowerLoss


@pytest.mark.drill("db-primary-failure", rto="15s", rpo=0)
def test_primary_power_loss_through_the_api(drill, webstack):
    """The API finds the new primary by itself and loses no acknowledged write, while reads go on from the cache."""
    drill.workload(webstack.reads(rate=50, rto="3s"))
    writes = drill.workload(webstack.writes(rate=25))
    with drill.inject(PowerLoss(webstack.primary)):
        writes.wait_recovered()


@pytest.mark.webstack(reconnects=False, apis=1, balancer=False)
@pytest.mark.drill("db-primary-failure", rto="4s", rpo=0, expect="FAIL", because="rto", environments=["embedded"])
def test_an_api_that_keeps_its_first_connections(drill, webstack):
    """An API that never reconnects takes no write although the new primary is there, until somebody starts it anew."""
    drill.workload(webstack.reads(rate=50, timeout_s=0.35))
    drill.workload(webstack.writes(rate=25, timeout_s=0.35))
    with drill.inject(PowerLoss(webstack.primary)):
        drill.observe(4.5)
        with drill.phase("started anew by hand"):
            webstack.start_api_anew(webstack.api[0])
