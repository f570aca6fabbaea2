"""The database's volume is full: writes are refused and nothing else happens, somebody is told, and all is well once there is space again.

Two ways to run out. Heap: a table cannot grow, the statement fails, the server lives. WAL: the log cannot be extended, and PostgreSQL has
no choice but to PANIC; it cannot come up again before there is space, so the standby takes over.
"""

import pytest
from disk_looks import Running, reads_go_on, room_for_wal, wal_burst_ends_the_server, writes_are_refused

from chaos import DiskFill

FULL = "disk-full"


@pytest.mark.drill("disk-full", rto="10s", mttd={FULL: "10s"})
def test_database_volume_full(drill, webstack, monitoring):
    """A full database volume is alerted on, costs no acknowledged write and no read, and writes are back when there is space again."""
    drill.workload(webstack.writes(rate=25))
    drill.check("the monitoring is steady", monitoring.steady, within="20s")
    before = Running(webstack)
    alert = drill.signal(FULL, lambda: monitoring.firing("DiskAlmostFull"))
    room_for_wal(webstack)
    with drill.inject(DiskFill(webstack.primary)):
        drill.check("writes are refused", lambda: writes_are_refused(webstack), within="5s")
        drill.check("reads go on", lambda: reads_go_on(webstack))
        alert.wait_fired("10s")
        drill.check("nothing crashed", before.same)


@pytest.mark.monitoring(rules="rules-wrong-volume.yml")
@pytest.mark.drill("disk-full", rto="10s", mttd={FULL: "10s"}, expect="FAIL", because="mttd")
def test_alert_on_the_wrong_volume(drill, webstack, monitoring):
    """The broken twin: a rule that watches another volume evaluates, is green, and tells nobody."""
    drill.workload(webstack.writes(rate=25))
    drill.check("the monitoring is steady", monitoring.steady, within="20s")
    alert = drill.signal(FULL, lambda: monitoring.firing("DiskAlmostFull"))
    room_for_wal(webstack)
    with drill.inject(DiskFill(webstack.primary)):
        alert.wait_fired("3s")


@pytest.mark.drill("disk-full", rto="15s", rto_from="fault", environments=["embedded"])
def test_database_wal_panic(drill, webstack):
    """When its full volume makes the primary PANIC, the standby takes over without losing a write; with space the old primary is back."""
    writes = drill.workload(webstack.writes(rate=25))
    primary = webstack.primary
    with drill.inject(DiskFill(primary)):
        drill.check("the primary ends", lambda: wal_burst_ends_the_server(webstack, primary), within="10s")
        writes.wait_recovered()
