"""The parts of the web stack that need no stack: its log, its configuration texts, and what its marker refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.webstack import topology
from fixtures.webstack.parameters import WEAKNESSES, Parameters
from fixtures.webstack.service import logs
from fixtures.webstack.service.config import Endpoint


def test_a_log_begins_anew_at_its_bound(tmp_path: Path) -> None:
    """A log never takes more than twice its bound, and its newest line is there."""
    log = logs.JsonLog(tmp_path / "api.jsonl")
    for number in range(6000):
        log.write("request", number=number, text="x" * 1000)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2 and all(size <= logs.ROTATE_BYTES + 2000 for size in sizes)
    assert json.loads((tmp_path / "api.jsonl").read_text().splitlines()[-1])["number"] == 5999


def test_a_line_that_does_not_fit_is_counted() -> None:
    """On a full volume the log goes on, and says how many lines are missing."""
    log = logs.JsonLog(Path("/dev/full"))
    log.write("one")
    log.write("two")
    assert log.lost == 2


def test_a_log_that_must_be_written_ends_the_process() -> None:
    """With the weakness the process ends with the exit code of ENOSPC."""
    code = """\
from pathlib import Path
from fixtures.webstack.service.logs import JsonLog
JsonLog(Path('/dev/full'), survives=False).write('x')
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False, cwd=root)
    assert done.returncode == logs.EXIT_LOG_FULL and "No space left" in done.stderr


@pytest.mark.parametrize("checks", [True, False])
def test_haproxy_takes_its_configuration(tmp_path: Path, checks: bool) -> None:
    """What is written for HAProxy is accepted by HAProxy without a warning."""
    haproxy = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if haproxy is None:
        pytest.skip("haproxy is not installed: apt-get install haproxy")
    apis = [Endpoint("api-1", "127.0.0.1", 8000), Endpoint("api-2", "127.0.0.1", 8001)]
    (tmp_path / "cfg").write_text(topology.haproxy_cfg(Endpoint("balancer", "127.0.0.1", 8080), apis, health_checks=checks))
    done = subprocess.run([haproxy, "-c", "-f", tmp_path / "cfg"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"cache": "memcached"}, "cache"),
        ({"replication": "none"}, "replication"),
        ({"manager": "repmgr"}, "manager"),
        ({"apis": 0}, "apis"),
        ({"sentinel_aware": False}, "sentinel_aware"),
        ({"health_checks": False, "balancer": False}, "health_checks"),
    ],
)
def test_what_cannot_be_is_named(given: dict[str, object], named: str) -> None:
    """Parameters that make no stack are refused, by the name of the argument."""
    assert Parameters(**given).amiss().startswith(named)  # type: ignore[arg-type]


def test_a_stack_has_no_weakness_unless_it_is_asked_for() -> None:
    """Every weakness is off by default, and is told when it is on."""
    assert Parameters().weaknesses == ()
    assert [Parameters(**{name: False}).weaknesses for name in WEAKNESSES] == [(name,) for name in WEAKNESSES]
