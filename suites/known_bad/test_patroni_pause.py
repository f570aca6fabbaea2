"""A system that is known to be bad, to show that the meter can tell: Patroni 3.0.2 with etcd3, in synchronous mode.

Its primary, paused for longer than ttl and resumed, takes the leader key back by an unconditional PUT, and what the other side
acknowledged meanwhile is gone (mended upstream by pull request 2689; 3.1.2 compares and swaps). It does not happen every time, so the
first drill is repeated until it does. A sticky client that stays on the old primary runs beside the one that follows the failover: what
it is told counts as well.
"""

import pytest

from chaos import Pause


def pause_and_resume(drill, postgres):
    writes = drill.workload(postgres.appends(rate=150))
    drill.workload(postgres.appends(rate=150, sticky=True))
    with drill.inject(Pause(postgres.primary)):
        writes.wait_recovered()


@pytest.mark.postgres(replication="sync", patroni="3.0.2")
@pytest.mark.drill(rto="30s", rpo=0, environments=["docker"], expect="FAIL", because="rpo", repeat=20, until="FAIL")
def test_patroni_3_0_2_loses_acknowledged_writes(drill, postgres):
    """Patroni 3.0.2 loses acknowledged writes when its primary is paused for longer than ttl and comes back."""
    pause_and_resume(drill, postgres)


@pytest.mark.postgres(replication="sync", patroni="3.1.2")
@pytest.mark.drill(rto="30s", rpo=0, environments=["docker"], repeat=5)
def test_patroni_3_1_2_loses_nothing(drill, postgres):
    """Patroni 3.1.2 loses nothing when its primary is paused for longer than ttl and comes back."""
    pause_and_resume(drill, postgres)
