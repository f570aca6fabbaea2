"""What the drills of this directory look at: processes and their restarts, refusals, reads, the write-ahead log. No drills.

Each look returns what it saw, or raises: that is what ``drill.check`` takes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chaos import EnvironmentFailed, Node, NodeRef, NotHealthy
from chaos.environments.base import Processes, require

if TYPE_CHECKING:  # collecting these drills needs no extra; running them says which one is missing
    from fixtures.webstack.stack import WebStack

REFUSED, FOUND = 503, 200
DISK_FULL = "53100"  # PostgreSQL's SQLSTATE for it
READS = 5
WAL_BURST_BYTES = 2_000_000
NAMES = ("webapi", "postgres")


class Running:
    """The APIs and the database servers as they were when this was made."""

    def __init__(self, stack: WebStack) -> None:
        self._stack = stack
        self._before, self._started = self._now(), self._starts()

    def same(self) -> str:
        """The same processes as before, and no supervisor that started one anew."""
        now = self._now()
        if changed := [f"{node}: {self._before[node]} became {now[node]}" for node in now if now[node] != self._before[node]]:
            raise NotHealthy("a process is not the one that it was", expected="the same pids", observed="; ".join(changed))
        if (starts := self._starts()) != self._started:
            raise NotHealthy("a supervisor had to start its program again", expected=str(self._started), observed=str(starts))
        return "; ".join(f"{node} {found}" for node, found in now.items())

    def lose_log_lines(self) -> str:
        """Every API says that its log loses lines."""
        lost = {node.name: _metric(self._stack, node, "webapi_log_lines_lost") for node in self._stack.api}
        if not all(lost.values()):
            raise NotHealthy("a log is written all the same", expected="lines that are lost", observed=str(lost))
        return ", ".join(f"{node} lost {count:g} lines" for node, count in lost.items())

    def _now(self) -> dict[str, str]:
        databases = [address.name for address in self._stack.database.addresses()]
        return {name: _first(self._stack.nodes[name]) for name in (*(node.name for node in self._stack.api), *databases)}

    def _starts(self) -> dict[str, int]:
        return {node.name: self._stack.supervisor_log(node).count('"started"') for node in self._stack.api}


def _first(node: Node) -> str:
    """The API's process or the postmaster: named so, and not a child of another one. By pid and the time of its start."""
    named = {one.pid: one for one in require(node, Processes, for_what="a drill's check").processes() if one.name in NAMES}
    return " ".join(f"{one.name} {one.pid}@{one.started}" for one in named.values() if one.parent not in named) or "none"


def _metric(stack: WebStack, node: NodeRef, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", stack.get("/metrics", node=node).text, re.MULTILINE)
    if found is None:
        raise NotHealthy(f"no metric {name}", where=node.name)
    return float(found.group(1))


def writes_are_refused(stack: WebStack) -> str:
    """The API says a definite no, and why."""
    answered = stack.post("/api/v1/companies", {"name": "One More", "source": "check", "reference": 1, "registration": 1})
    if answered.status_code != REFUSED or DISK_FULL not in answered.text:
        raise NotHealthy("a write was not refused for want of space", expected=f"{REFUSED}, {DISK_FULL}", observed=_said(answered))
    return _said(answered)


def reads_go_on(stack: WebStack) -> str:
    """Every API answers what is there, and reaches the primary."""
    seen = []
    for node in stack.api:
        for path in ("/api/v1/health/database", "/api/v1/companies", *(f"/api/v1/companies/{id}" for id in range(1, READS + 1))):
            answered = stack.get(path, node=node)
            if answered.status_code != FOUND:
                raise NotHealthy("a read failed", where=f"{node.name}{path}", observed=_said(answered))
            seen.append(answered.headers.get("x-cache", "-"))
    return f"{len(seen)} requests answered; cache: {' '.join(seen)}"


def _said(answered: object) -> str:
    return f"{getattr(answered, 'status_code', '?')} {getattr(answered, 'text', '')[:200]}"


def room_for_wal(stack: WebStack) -> None:
    """A fresh segment of write-ahead log, which is allocated whole, and a checkpoint behind it: for as long as a drill takes the server
    needs no more, and what is short of space is the tables alone."""
    observer = stack.database.observer(stack.primary)
    observer.query("checkpoint")
    observer.query("select pg_switch_wal()")


def wal_burst_ends_the_server(stack: WebStack, node: NodeRef) -> str:
    """Writes more log there, as a batch job would, and looks whether the server still runs; its last words, where its own log had room."""
    said = ""
    try:
        stack.database.observer(node).query(f"select pg_logical_emit_message(false, 'gameday', repeat('x', {WAL_BURST_BYTES}))")
    except EnvironmentFailed as err:
        said = str(err)
    if stack.services(node.name)["postgres"]:
        raise NotHealthy("the server runs", where=node.name, observed=said or "the log still grows")
    panics = [line for line in stack.file(node.name, "postgres.log").splitlines() if "PANIC" in line]
    return f"the server on {node.name} has ended; {panics[0] if panics else said}"
