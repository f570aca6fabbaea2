"""The primary's server ends while its machine lives: killed without warning, or stopped in the orderly way."""

import pytest

from chaos import Kill, Stop


@pytest.mark.drill("db-primary-failure", rto="15s", rpo=0)
def test_postmaster_killed(drill, postgres):
    """Somebody serves writes again and none is lost when the primary's postmaster is killed with SIGKILL."""
    writes = drill.workload(postgres.appends(rate=200))
    with drill.inject(Kill(postgres.primary, process="postgres")):
        writes.wait_recovered()


@pytest.mark.drill("db-primary-failure", rto="15s", rpo=0)
def test_primary_stopped(drill, postgres):
    """A replica takes over and no acknowledged write is lost when the primary's services are stopped in the orderly way."""
    writes = drill.workload(postgres.appends(rate=200))
    with drill.inject(Stop(postgres.primary)):
        writes.wait_recovered()
