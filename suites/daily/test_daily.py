"""The checks of every day, on the stack as it is: nothing is broken, nobody is needed, and the result is there for machines to read.

Beside the drill's own report, ``<run>/daily/<test>.json`` says of every check whether it held, what it saw, and how long it took. A check
that does not hold does not keep the others from being asked.
"""

import json
from datetime import timedelta

import pytest

from chaos import now_ns
from chaos.core.clock import utc_label, utc_now
from chaos.core.errors import CheckFailed
from fixtures.backups.checks import DailyChecks
from fixtures.backups.contract import Policy

POLICY = Policy(max_age_s=24 * 3600.0, keep=2)
ONE_IS_ENOUGH = Policy(max_age_s=POLICY.max_age_s, keep=1)
HEALTH = ("ping", "ready", "database")


@pytest.fixture
def ask(drill, request, gameday_options):
    """Asks every check, writes the summary, and fails with the first that did not hold."""

    def ask_all(checks):
        results, failed, begin = [], [], utc_label(utc_now())
        for name, look in checks.items():
            began_ns, held = now_ns(), True
            try:
                seen = drill.check(name, look)
            except CheckFailed as err:
                seen, held = str(err), False
                failed.append(err)
            results.append({"check": name, "held": held, "seen": seen, "seconds": round((now_ns() - began_ns) / 1e9, 3)})
        summary = {"began_utc": begin, "ended_utc": utc_label(utc_now()), "held": not failed, "checks": results}
        path = gameday_options.run_dir / "daily" / f"{request.node.originalname}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(summary, indent=2), encoding="utf-8")
        drill.note(f"summary for machines: {path}")
        if failed:
            raise failed[0]

    return ask_all


def health_of(webstack):
    """The API's own statements on itself, as a client gets them."""

    def look():
        answers = {name: webstack.get(f"/api/v1/health/{name}").status_code for name in HEALTH}
        assert set(answers.values()) == {200}, f"{answers}"
        return f"{', '.join(answers)} answer 200"

    return look


def cheap(checks):
    """All but those that read every byte, which the broken twins do not need."""
    return {name: look for name, look in checks.all().items() if name not in ("backup integrity", "test restore")}


@pytest.mark.drill(environments=["embedded"])
def test_daily_checks(drill, webstack, backups, backed_up, ask):
    """Everything that must hold every day holds: backups, a test restore, replication, connectivity and health."""
    backups.take()
    ask({**DailyChecks(backed_up, backups, POLICY).all(), "health endpoints": health_of(webstack)})


@pytest.mark.backups(encrypted=False)
@pytest.mark.drill(environments=["embedded"], expect="FAIL", because="check")
def test_daily_checks_of_unencrypted_backups(drill, postgres, backups, backed_up, ask):
    """The broken twin: backups that anybody can read are found by their bytes."""
    ask(cheap(DailyChecks(backed_up, backups, ONE_IS_ENOUGH)))


@pytest.mark.drill(environments=["embedded"], expect="FAIL", because="check")
def test_daily_checks_a_day_after_the_last_backup(drill, postgres, backups, backed_up, ask):
    """The broken twin: asked twenty-five hours later, with no backup taken since, the checks say that the newest is too old."""
    later = DailyChecks(backed_up, backups, ONE_IS_ENOUGH, now=lambda: utc_now() + timedelta(hours=25))
    ask(cheap(later))
