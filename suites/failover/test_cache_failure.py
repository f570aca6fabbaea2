"""Redis fails: the API answers from the database, and nobody notices more than that it takes longer."""

import pytest

from chaos import Stop


@pytest.mark.drill("cache-failure", rto=0, rpo=0, latency_p99="500ms", must_return_to_baseline="10s")
def test_cache_stopped(drill, webstack):
    """Not one read or write fails while Redis is stopped, all are answered in time, and with Redis it is as fast as before."""
    drill.workload(webstack.reads(rate=100, timeout_s=1.0))
    drill.workload(webstack.writes(rate=100, timeout_s=1.0))
    with drill.inject(Stop(webstack.cache)):
        drill.observe(4.0)


@pytest.mark.webstack(cache_fallback=False)
@pytest.mark.drill("cache-failure", rto=0, rpo=0, expect="FAIL", because="rto")
def test_an_api_that_needs_its_cache(drill, webstack):
    """An API that answers 500 without its cache turns a stopped Redis into an outage of everything."""
    drill.workload(webstack.reads(rate=100))
    drill.workload(webstack.writes(rate=50))
    with drill.inject(Stop(webstack.cache)):
        drill.observe(2.0)
