"""The volume of the API's own log is full, on every API at once: a log is not worth an outage."""

import pytest
from disk_looks import Running

from chaos import DiskFill, Together


@pytest.mark.drill("disk-full", rto=0, rto_from="fault")
def test_log_volume_full(drill, webstack):
    """Every API goes on, in the same process and without a single error, when its log does not fit any more."""
    drill.workload(webstack.reads(rate=50))
    drill.workload(webstack.writes(rate=25))
    before = Running(webstack)
    with drill.inject(Together(*(DiskFill(node) for node in webstack.api))):
        drill.check("lines are lost", before.lose_log_lines, within="5s")
        drill.observe(1.0)
        drill.check("nothing crashed", before.same)


@pytest.mark.webstack(survives_enospc=False)
@pytest.mark.drill("disk-full", rto=0, rto_from="fault", expect="FAIL", because="rto")
def test_log_volume_full_ends_the_api(drill, webstack):
    """The broken twin: an API that cannot do without its log ends when that does not fit, and no restart helps."""
    drill.workload(webstack.reads(rate=50))
    drill.workload(webstack.writes(rate=25))
    with drill.inject(Together(*(DiskFill(node) for node in webstack.api))):
        drill.observe(0.5)
