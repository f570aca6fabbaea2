"""The control experiment: nothing of the web stack is broken, so nothing may be measured."""

import pytest

from chaos import Noop


@pytest.mark.drill(rto=0, rpo=0)
def test_nothing_happens_to_the_web_stack(drill, webstack):
    """A drill that breaks nothing measures no outage of reads or writes, and no loss."""
    drill.workload(webstack.reads(rate=100))
    drill.workload(webstack.writes(rate=50))
    with drill.inject(Noop(webstack.cache)):
        drill.observe(1.0)
