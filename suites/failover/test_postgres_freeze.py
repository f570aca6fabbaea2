"""The primary stands still: its kernel answers, its server does not, and then it comes back as if nothing had happened."""

import pytest

from chaos import Pause


@pytest.mark.drill("db-primary-failure", rto="20s", rpo=0)
def test_primary_frozen(drill, postgres):
    """A replica takes over, and nothing that anybody acknowledged is lost, the old primary's word after its thaw included."""
    writes = drill.workload(postgres.appends(rate=200))
    drill.workload(postgres.appends(rate=50, sticky=True))
    with drill.inject(Pause(postgres.primary)):
        writes.wait_recovered()
