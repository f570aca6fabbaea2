"""Monitoring by a real Prometheus: it sees what is there, its alerts fire and end, and it is ready again in no time for the next drill.

One system for all tests, as for the drills of one process: what comes after the first has a monitor that rested.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import EnvironmentFailed, NotHealthy, Unavailable, now_ns, wait_for
from chaos.core.clock import seconds
from chaos.environments.base import DropRule
from chaos.environments.microhost.client import Sandbox
from chaos.environments.microhost.protocol import ServiceSpec
from fixtures.monitoring.embedded import HERE, MONITOR, RULES, EmbeddedMonitoring, Watched
from fixtures.monitoring.prometheus import Program, Target, configuration, find_prometheus

DISK_BYTES = 4 << 20
METRICS_PORT, REDIS_PORT = 8000, 6379
FIRES_WITHIN_S = 6.0
UP_WITHIN_S = 1.5
BACK_WITHIN_S = 2.0
WRONG_VOLUME = "rules-wrong-volume.yml"
# What an application's own /metrics is to Prometheus: a page of numbers.
APPLICATION = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"webapi_cache_up 1\\n")
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def watched(sandbox: Sandbox) -> list[Watched]:
    """A database's host without a database, an API's host with something that has metrics, and a Redis."""
    redis = shutil.which("redis-server")
    if redis is None:
        raise Unavailable("Redis is not installed", next_step="sudo apt-get install redis-server")
    sandbox.add("pg1", disk_bytes=DISK_BYTES)
    api = ServiceSpec("api", (sys.executable, "-I", "-S", "-c", APPLICATION, str(METRICS_PORT)))
    sandbox.add("api-1", disk_bytes=DISK_BYTES, services=[api])
    cache = ServiceSpec("redis", (redis, "--port", str(REDIS_PORT), "--save", "", "--dir", str(sandbox.inside("redis-1"))))
    sandbox.add("redis-1", disk_bytes=DISK_BYTES, services=[cache])
    return [
        Watched("pg1", "database"),
        Watched("api-1", "api", metrics_port=METRICS_PORT),
        Watched("redis-1", "cache", redis_port=REDIS_PORT),
    ]


@pytest.fixture(scope="module")
def monitor(sandbox: Sandbox, program: Program, watched: list[Watched]) -> EmbeddedMonitoring:
    """Made once, as for all drills of a process."""
    began_ns = now_ns()
    monitor = EmbeddedMonitoring(sandbox, program, watched)
    assert seconds(now_ns() - began_ns) < UP_WITHIN_S * 3  # on a machine that does something else as well
    return monitor


@pytest.fixture
def monitoring(monitor: EmbeddedMonitoring) -> Iterator[EmbeddedMonitoring]:
    """Begun and steady for one test; at rest after it."""
    monitor.begin()
    monitor.steady_within()
    yield monitor
    monitor.rest()


def fires(monitoring: EmbeddedMonitoring, name: str, *, within_s: float = FIRES_WITHIN_S) -> None:
    wait_for(lambda: monitoring.firing(name), timeout_s=within_s, what=f"{name} to fire", interval_s=0.05)


def fill(sandbox: Sandbox, host: str) -> Path:
    """All but a few blocks of a host's disk."""
    file = sandbox.outside(host) / "fill"
    file.write_bytes(bytes(DISK_BYTES - 64 * 1024))
    return file


def test_a_full_volume_fires_the_disk_alert_and_a_free_one_ends_it(monitoring: EmbeddedMonitoring, sandbox: Sandbox) -> None:
    """DiskAlmostFull fires for the host and the mount point that are full, for no other, and is quiet again once there is space."""
    file = fill(sandbox, "pg1")
    fires(monitoring, "DiskAlmostFull")
    (alert,) = monitoring.alerts()
    assert (alert.labels["instance"], alert.labels["mountpoint"]) == ("pg1", str(sandbox.inside("pg1")))
    free = {sample.labels["instance"]: sample.value for sample in monitoring.query("node_filesystem_avail_bytes")}
    assert free["pg1"] < DISK_BYTES / 10 < free["api-1"]
    with pytest.raises(NotHealthy, match="DiskAlmostFull firing on pg1"):
        monitoring.steady()
    file.unlink()
    monitoring.steady_within(FIRES_WITHIN_S)
    assert not monitoring.firing("DiskAlmostFull")


def test_the_rule_for_the_wrong_volume_is_blind_to_the_database(monitoring: EmbeddedMonitoring, sandbox: Sandbox) -> None:
    """The broken rules evaluate and fire for the volume that they watch, and say nothing of a full volume of the database."""
    monitoring.begin(WRONG_VOLUME)
    monitoring.steady_within()
    files = [fill(sandbox, "pg1"), fill(sandbox, "api-1")]
    fires(monitoring, "DiskAlmostFull")
    assert {alert.labels["instance"] for alert in monitoring.alerts()} == {"api-1"}
    for file in files:
        file.unlink()


def test_an_application_that_does_not_answer_its_scrapes_is_down(monitoring: EmbeddedMonitoring, sandbox: Sandbox) -> None:
    """ApiDown fires while the service is stopped and ends when it runs again."""
    host = sandbox.hosts["api-1"]
    host.stop_service("api")
    fires(monitoring, "ApiDown")
    host.start_service("api")
    monitoring.steady_within(FIRES_WITHIN_S)


def test_a_redis_that_does_not_answer_is_down(monitoring: EmbeddedMonitoring, sandbox: Sandbox) -> None:
    """CacheDown fires while Redis is stopped on a host that lives, and ends when it runs again."""
    host = sandbox.hosts["redis-1"]
    host.stop_service("redis")
    fires(monitoring, "CacheDown")
    host.start_service("redis")
    monitoring.steady_within(FIRES_WITHIN_S)


def test_a_partition_blinds_prometheus_and_not_the_drill(monitoring: EmbeddedMonitoring) -> None:
    """Cut off from everybody, Prometheus sees nobody, and still answers this process, which hears ApiDown from it."""
    monitoring.host.drop("cut", [DropRule(True), DropRule(False)])
    try:
        fires(monitoring, "ApiDown")
        seen = {sample.labels["instance"]: sample.value for sample in monitoring.query('up{job="host"}')}
        assert seen == {"pg1": 0.0, "api-1": 0.0, "redis-1": 0.0, MONITOR: 1.0}
    finally:
        monitoring.host.undrop("cut")
    monitoring.steady_within(FIRES_WITHIN_S)


def test_rest_leaves_nothing_on_the_watched_hosts_and_is_over_at_once(monitoring: EmbeddedMonitoring, sandbox: Sandbox) -> None:
    """At rest the monitor stands still, no exporter is left on a host, nobody is asked to count it among the hosts in use; and a second
    later everything has been scraped anew."""
    monitoring.rest()
    assert monitoring.host.frozen() and MONITOR not in sandbox.hosts
    left = {name: [process.name for process in sandbox.hosts[name].processes()] for name in ("pg1", "api-1", "redis-1")}
    assert left["pg1"] == [] and len(left["api-1"]) == len(left["redis-1"]) == 1
    assert "runs" in monitoring.prove_healthy(1.0)
    began_ns = now_ns()
    monitoring.begin()
    with pytest.raises(NotHealthy, match="nothing new yet"):
        monitoring.steady()
    monitoring.steady_within(BACK_WITHIN_S * 2)
    assert seconds(now_ns() - began_ns) < BACK_WITHIN_S * 2


def test_nonsense_is_refused_in_prometheus_own_words(monitoring: EmbeddedMonitoring) -> None:
    """A query that does not parse, and a file of rules that does not, raise with what Prometheus said, and the rules in force stay."""
    with pytest.raises(EnvironmentFailed, match="parse error"):
        monitoring.query("up{")
    rules = monitoring.host.disk / RULES
    good = rules.read_text()
    rules.write_text(good.replace("expr: redis_up", "expr: ) redis_up"))
    with pytest.raises(EnvironmentFailed, match="refused its configuration"):
        monitoring.reload()
    rules.write_text(good)
    monitoring.reload()
    monitoring.steady_within()


def test_a_machine_without_prometheus_is_told_how_to_get_one(tmp_path: Path) -> None:
    """No Prometheus on the search path: unavailable, with the command that installs it; one that is no Prometheus is not taken for one."""
    with pytest.raises(Unavailable, match="apt-get install prometheus"):
        find_prometheus(str(tmp_path))
    other = tmp_path / "prometheus"
    other.write_text("#!/bin/sh\necho something else\n")
    other.chmod(0o755)
    with pytest.raises(Unavailable, match="does not say its version"):
        find_prometheus(str(tmp_path))


@pytest.mark.parametrize("rules", [RULES, WRONG_VOLUME])
def test_promtool_accepts_configuration_and_rules(program: Program, rules: str, tmp_path: Path) -> None:
    """Prometheus' own checker finds nothing wrong with what is made for it."""
    promtool = shutil.which("promtool")
    assert promtool is not None, "Debian's package prometheus brings promtool"
    file = tmp_path / "prometheus.yml"
    targets = [Target("host", "pg1", "10.66.0.2:9100", "database"), Target("api", "api-1", "10.66.0.5:8000", "api")]
    file.write_text(configuration(targets, rules=str(HERE / rules)))
    done = subprocess.run([promtool, "check", "config", str(file)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
