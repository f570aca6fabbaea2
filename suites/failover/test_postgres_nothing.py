"""The control experiment: nothing is broken, so nothing may be measured."""

import pytest

from chaos import Noop


@pytest.mark.drill(rto=0, rpo=0)
def test_nothing_happens(drill, postgres):
    """A drill that breaks nothing measures no outage and no loss."""
    drill.workload(postgres.appends(rate=200))
    with drill.inject(Noop(postgres.primary)):
        drill.observe(2.0)
