"""A bad statement is committed while clients write. Replication copies it faithfully; only a recovery to the moment before helps."""

import pytest

from chaos.engine.runbook import Call, Phase, Runbook
from fixtures.backups.contract import RestoreRefused, Target
from fixtures.backups.embedded import path_of
from fixtures.backups.faults import BadStatement, MissingFile
from fixtures.backups.recovery import Recovery

WRONG = "from gameday_ledger where body = -1"


def spoil(recovery, postgres):
    """Every row of the ledger gets another content, by a statement that forgot its where clause."""
    return BadStatement(postgres.primary, "update gameday_ledger set body = -1", f"select count(*) {WRONG}", recovery.psql())


def runbook(recovery, target, or_else=None):
    """``target``: where the recovery is to end, asked when the database still runs; ``or_else``: where, if that is refused."""
    found = {}

    def restore():
        try:
            return recovery.restore(found["target"])
        except RestoreRefused as err:
            if or_else is None:
                raise
            return f"refused: {err}; instead {recovery.restore(or_else)}"

    def assess():
        found["target"] = target()
        return f"to be recovered to {found['target']}"

    return Runbook(
        "point-in-time recovery",
        (
            Phase("assessment", (Call("find the moment", assess),), budget="3s"),
            Phase("nobody writes", (Call("stop the cluster", recovery.halt),), budget="5s"),
            Phase("restore", (Call("recover and look", restore),), budget="15s"),
            Phase("service", (Call("start the primary", recovery.start),), budget="5s"),
            Phase("redundancy", (Call("copy to the standby", recovery.rejoin),), budget="10s"),
        ),
    )


def nothing_wrong(server):
    """The recovered server has rows, and none of them is wrong."""
    ((rows, wrong),) = server.query(f"select (select count(*) from gameday_ledger), (select count(*) {WRONG})")
    assert int(rows) > 0 and wrong == "0", f"{rows} rows, {wrong} of them wrong"
    return f"{rows} rows, none wrong"


@pytest.mark.drill("data-corruption", rto="30s", rpo="3s", environments=["embedded"])
def test_recovery_to_the_moment_before_a_bad_statement(drill, postgres, backups):
    """Only what was written between the bad statement and the halt is lost, and nothing of the corruption is left."""
    recovery = Recovery(postgres, backups, nothing_wrong)
    writes = drill.workload(postgres.appends(rate=100))
    with drill.inject(spoil(recovery, postgres)):
        drill.observe(0.5)  # until somebody notices
        drill.run(runbook(recovery, lambda: Target(time=recovery.first_bad_commit(WRONG))))
        writes.wait_recovered()


@pytest.mark.drill("data-corruption", rto="30s", rpo="3s", expect="FAIL", because="rpo", environments=["embedded"])
def test_recovery_with_a_segment_missing(drill, postgres, backups):
    """The broken twin: with a segment of the archive missing, the moment is out of reach, and what is within reach is too old."""
    recovery = Recovery(postgres, backups)
    segment = backups.segment_being_written()
    writes = drill.workload(postgres.appends(rate=100))
    with drill.inject(spoil(recovery, postgres)):
        drill.observe(0.5)
        with drill.inject(MissingFile(backups.repository, path=path_of(postgres, f"wal/{segment}"))):
            drill.run(runbook(recovery, lambda: Target(time=recovery.first_bad_commit(WRONG)), or_else=Target()))
            writes.wait_recovered()
