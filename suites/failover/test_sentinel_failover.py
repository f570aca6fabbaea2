"""The Redis master loses power, and what counts lives in Redis alone: the Sentinels promote a replica, and the API must follow."""

import pytest

from chaos import PowerLoss


@pytest.mark.webstack(cache="sentinel")
@pytest.mark.drill(rto="8s")
def test_redis_master_power_loss(drill, webstack):
    """The Sentinels name another master and the API uses it: counters can be read and written again."""
    reads = drill.workload(webstack.cache_reads(rate=100))
    writes = drill.workload(webstack.cache_writes(rate=50))
    with drill.inject(PowerLoss(webstack.cache)):
        reads.wait_recovered()
        writes.wait_recovered()


@pytest.mark.webstack(cache="sentinel", sentinel_aware=False)
@pytest.mark.drill(rto="4s", expect="FAIL", because="rto")
def test_a_client_that_ignores_the_sentinels(drill, webstack):
    """An API that stays with its first Redis has no counters, although the Sentinels have long named another master."""
    drill.workload(webstack.cache_reads(rate=100, timeout_s=0.35))
    with drill.inject(PowerLoss(webstack.cache)):
        drill.observe(4.5)
