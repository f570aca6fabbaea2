"""The network between the parts of the web stack is cut: who can go on does, and everybody finds back once packets pass again.

The broken twins stand at the end: each needs a stack of its own, and those before them share one.
"""

import pytest

from chaos import Partition, now_ns

# Between two of TCP's retransmissions, 3.3, 6.5, 13 and 26 s after the first packet that was lost: whoever waits for his answer without a
# bound hears nothing of the heal before the second. A container engine takes seconds to cut six pairs and to see it, hence the later gap.
BETWEEN_RETRANSMISSIONS_S = {"embedded": 3.6, "docker": 17.5}


def database_of(stack):
    """Every data node, the primary first."""
    return (stack.primary, *stack.replicas)


@pytest.mark.drill("network-partition", rto="5s")
def test_apis_cut_off_from_the_database(drill, webstack):
    """Every API is back on the database within seconds of the heal, and no acknowledged write is lost."""
    drill.workload(webstack.writes(rate=50))
    drill.workload(webstack.reads(rate=50))
    with drill.inject(Partition(webstack.api, database_of(webstack))):
        drill.observe(1.5)


@pytest.mark.drill("network-partition", rto="5s")
def test_packets_to_the_database_vanish_one_way(drill, webstack):
    """Where only what the APIs send vanishes, and what the database sends arrives, they are back as soon after the heal."""
    drill.workload(webstack.writes(rate=50))
    with drill.inject(Partition(webstack.api, database_of(webstack), one_way=True)):
        drill.observe(1.5)


@pytest.mark.drill("cache-failure", latency_p99="400ms")
def test_apis_cut_off_from_the_cache(drill, webstack):
    """Reads go on from the database, hardly slower, and nobody meets an error."""
    drill.workload(webstack.mixed(rate=150, timeout_s=1.0))
    with drill.inject(Partition(webstack.api, webstack.caches)):
        drill.observe(3.0)


@pytest.mark.drill(rto="5s", rpo=0)
def test_balancer_cut_off_from_one_api(drill, webstack):
    """The balancer takes the API that it cannot reach out of its rotation, and clients notice for a moment only."""
    drill.workload(webstack.writes(rate=50))
    reads = drill.workload(webstack.reads(rate=50))
    with drill.inject(Partition.between(webstack.balancer, webstack.api[:1])):
        reads.wait_recovered()


# -- the broken twins


@pytest.mark.webstack(timeouts=False)
@pytest.mark.drill("network-partition", rto="2300ms", expect="FAIL", because="rto")
def test_apis_that_wait_for_ever(drill, webstack):
    """The broken twin: an API without timeouts sits on dead connections long after the heal, until TCP tries again by itself."""
    drill.workload(webstack.writes(rate=50, timeout_s=0.21))
    with drill.inject(Partition(webstack.api, database_of(webstack))) as cut:
        hold_s = BETWEEN_RETRANSMISSIONS_S[webstack.environment.kind]
        drill.observe(hold_s - (now_ns() - cut.record.issued_ns) / 1e9)


@pytest.mark.webstack(timeouts=False)
@pytest.mark.drill("cache-failure", rpo=None, expect="FAIL", because="rto")
def test_reads_that_wait_for_the_cache(drill, webstack):
    """The broken twin: an API that waits for its cache without a bound answers nobody while that is silent."""
    drill.workload(webstack.reads(rate=50, timeout_s=1.0))
    with drill.inject(Partition(webstack.api, webstack.caches)):
        drill.observe(1.5)


@pytest.mark.webstack(health_checks=False)
@pytest.mark.drill(rto="4s", expect="FAIL", because="rto")
def test_balancer_without_health_checks(drill, webstack):
    """The broken twin: a balancer that checks nobody sends every other request into the void for as long as it lasts."""
    drill.workload(webstack.reads(rate=50, timeout_s=0.35))
    with drill.inject(Partition.between(webstack.balancer, webstack.api[:1])):
        drill.observe(4.8)
