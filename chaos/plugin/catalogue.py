"""The scenarios that ship with the package: ids, names and documented budgets. Facts only; a drill may state tighter budgets.

A project adds its own under ``[scenarios]`` in ``gameday.toml``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """What is broken and what must hold. Budgets are as people write them (None: not bounded); ``rpo`` an int bounds the
    number of lost writes, a text the time they span."""

    id: str
    name: str
    rto: str | int | float | None = None
    rpo: str | int | None = None
    availability: str | float | None = None
    rto_from: str = "fault"
    description: str = ""


_ALL = (
    # Corporate web stack: PostgreSQL primary and replica, Redis, HTTP API.
    Scenario("db-primary-failure", "The database primary fails", "5m", 0, description="stopped, killed, powerless; a replica is promoted"),
    Scenario("cache-failure", "The cache fails", 0, 0, description="the API stays available, slower, without an error to users"),
    Scenario("api-crash", "The API process dies", "1m", 0, description="it restarts by itself"),
    Scenario("network-partition", "API and database are cut off", "1m", 0, rto_from="heal", description="all reconnect after the heal"),
    Scenario("disk-full", "The database volume is full", "1m", 0, rto_from="heal", description="reads go on; writes return after cleanup"),
    Scenario("full-dr", "Everything is lost", "4h", description="rebuilt from backups; loss is at most what came after the last one"),
    Scenario("regional-failover", "A region is lost", "5m", 0, "99.9%", description="the DR region carries the load, then failback"),
    # Multi-region chain: 7 validators in 3 regions, SQL database, DNS, object store, secrets.
    Scenario("region-failure", "The primary region is cut off", "15m", 0, description="API reachable, blocks produced, writes succeed"),
    Scenario("db-replication-failure", "Replication stops, then the primary fails", "5m", "5m", description="the loss is measured"),
    Scenario("dns-lb-failure", "DNS or the load balancer is down", "10m", 0, description="clients reach the API again"),
    Scenario("key-compromise", "A validator's key is exposed", "15m", 0, description="never two signers with one key"),
    Scenario("data-corruption", "Bad writes", "1h", "4h", description="restored to the last good point"),
    Scenario("multi-region-partition", "Regions cannot reach each other", "30m", 0, description="the minority halts and never forks"),
    Scenario("validator-failure", "One validator dies", "15m", 0, description="the standby takes over after the old one is stopped"),
    Scenario("az-failure", "A zone is lost", "30m", 0, description="goes on below a third of the validators; halts and resumes from there"),
    Scenario("provider-daemon-loss", "The provider's daemon is lost", "30m", "1h", description="restored, pending reports re-sent"),
    Scenario("monitoring-loss", "The primary monitoring is lost", "15m", "5m", description="the standby takes over, alerts are routed"),
    Scenario("node-loss", "A validator's disk is lost", "15m", 0, description="key restored only with the old node stopped; signs again"),
    # Edge platform: Workers, D1, KV, Durable Objects.
    Scenario("d1-pitr", "D1 rows are corrupted", "15m", description="restored to the bookmark, corruption count 0"),
    Scenario("worker-rollback", "A bad deployment is live", "5m", description="the previous behaviour is back"),
    Scenario("kv-restore", "KV keys are deleted", "30m", description="every key is back byte for byte"),
    Scenario("do-recovery", "Durable Object state is corrupted", "1h", description="state equals its D1 source"),
    Scenario("edge-failover", "All Workers, D1 and KV are gone", "2h", description="rebuilt, every API answers"),
)


def shipped() -> dict[str, Scenario]:
    """Every shipped scenario by id."""
    return {scenario.id: scenario for scenario in _ALL}
