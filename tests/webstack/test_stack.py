"""A web stack on micro-hosts: what it answers, what its writes leave behind, and that each weakness is one."""

from __future__ import annotations

import httpx
import msgspec
import pytest
from webstack_places import MakeStack

from chaos import wait_for
from fixtures.webstack.client import registration_of
from fixtures.webstack.embedded import EmbeddedWebStack
from fixtures.webstack.programs import find_programs
from fixtures.webstack.service.logs import EXIT_LOG_FULL

API_1, API_2 = "api-1", "api-2"
MORE_THAN_A_PAGE = 60
"""So many requests log more than what is left of the file's last page when the volume is full."""


def register(stack: EmbeddedWebStack, reference: int) -> httpx.Response:
    """What the workload of writes does, once."""
    source, registration = stack.writes().params["source"], registration_of(reference)
    new = {"name": f"Company {reference}", "source": source, "reference": reference, "registration": registration, "revenue": 7}
    return stack.post("/api/v1/companies", new)


def rows(stack: EmbeddedWebStack, sql: str) -> list[tuple[str, ...]]:
    return stack.database.observer(stack.primary).query(sql)


def fill(stack: EmbeddedWebStack, node: str) -> None:
    """The node's volume has no byte left."""
    with pytest.raises(OSError, match="No space left"), open(stack.nodes[node].disk / "ballast", "wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))


# -- without a weakness


def test_a_read_comes_from_the_database_once_and_then_from_the_cache(stack: EmbeddedWebStack) -> None:
    """The second answer is the first one's bytes, and says that it was cached."""
    stack.redis("cache").delete("company:7")
    first, second = (stack.get("/api/v1/companies/7") for _ in range(2))
    assert [first.headers["x-cache"], second.headers["x-cache"]] == ["miss", "hit"]
    assert first.json() == second.json() and first.json()["metrics"][0]["year"] == 2023


def test_a_write_leaves_a_company_its_figures_and_an_audit_row(stack: EmbeddedWebStack) -> None:
    """One POST makes one row in each of the three tables, and the company can be read at once."""
    stack.begin_drill("a write")
    id = register(stack, 1).json()["id"]
    assert rows(stack, f"select revenue from financial_metrics where company = {id}") == [("7",)]
    assert rows(stack, f"select action from audit_log where company = {id}") == [("create",)]
    assert stack.get(f"/api/v1/companies/{id}").json()["registration"] == registration_of(1)


def test_survivors_are_this_drills_own_and_what_was_changed_shows(stack: EmbeddedWebStack) -> None:
    """The ledger finds the rows of its drill alone, and tells a changed row and one without its audit row from whole ones."""
    stack.begin_drill("before")
    register(stack, 1)
    stack.begin_drill("survivors")
    changed, unaudited = (register(stack, reference).json()["id"] for reference in (1, 2))
    register(stack, 3)
    rows(stack, f"update companies set registration = 0 where id = {changed}")
    rows(stack, f"delete from audit_log where company = {unaudited}")
    read = stack.read_survivors("now")
    assert (read.ids, read.mutated, read.source) == ((1, 2, 3), (1, 2), stack.primary.name)


@pytest.mark.parametrize(("path", "status"), [("/api/v1/companies/999999999", 404), ("/api/v1/nothing", 404)])
def test_what_there_is_not(stack: EmbeddedWebStack, path: str, status: int) -> None:
    """An unknown company and an unknown path are told as such."""
    assert stack.get(path).status_code == status


def test_health_metrics_and_log_tell_of_the_same_requests(stack: EmbeddedWebStack) -> None:
    """A request is counted in the metrics and stands in the API's own log."""
    api = stack.api[0]
    assert stack.get("/api/v1/health/ready", node=api).json() == {"database": "ok", "cache": "ok", "name": api.name}
    before = [line["status"] for line in stack.api_log(api) if line.get("path") == "/api/v1/companies/12"]
    assert stack.get("/api/v1/companies/12", node=api).status_code == 200
    metrics = stack.get("/metrics", node=api).text
    assert 'webapi_requests_total{method="GET",path="/api/v1/companies/{id}",status="200"}' in metrics
    assert "webapi_database_up 1.0" in metrics and "webapi_log_lines_lost 0.0" in metrics
    assert [line["status"] for line in stack.api_log(api) if line.get("path") == "/api/v1/companies/12"] == [*before, 200]


def test_a_full_log_volume_costs_log_lines_only(make_stack: MakeStack) -> None:
    """With its volume full an API goes on answering, counts the lines that it lost, and writes again when there is space."""
    stack = make_stack(apis=1, balancer=False)
    fill(stack, API_1)
    assert [stack.get("/api/v1/companies").status_code for _ in range(MORE_THAN_A_PAGE)] == [200] * MORE_THAN_A_PAGE
    assert "webapi_log_lines_lost 0.0" not in stack.get("/metrics").text
    (stack.nodes[API_1].disk / "ballast").unlink()
    assert stack.get("/api/v1/companies/33").status_code == 200
    assert stack.api_log(stack.api[0])[-1]["path"] == "/api/v1/companies/33"


def test_a_silent_cache_is_done_without(make_stack: MakeStack) -> None:
    """While Redis stands still, reads come from the database within their time, and from the cache again afterwards."""
    stack = make_stack(apis=1, balancer=False)
    stack.nodes["cache"].freeze()
    answers = [stack.get("/api/v1/companies/5") for _ in range(5)]
    assert [(x.status_code, x.headers["x-cache"]) for x in answers] == [(200, "away")] * 5
    assert max(x.elapsed.total_seconds() for x in answers[1:]) < 0.2
    stack.nodes["cache"].thaw()
    wait_for(lambda: stack.get("/api/v1/companies/5").headers["x-cache"] == "hit", timeout_s=5, what="the cache to be used again")


@pytest.mark.parametrize("own", [False, True], ids=["HAProxy", "our own"])
def test_a_balancer_hides_a_dead_api(make_stack: MakeStack, own: bool) -> None:
    """With one of two APIs stopped, neither a read nor a write fails, with HAProxy as with the small balancer."""
    programs = find_programs()
    if not own and not programs.haproxy:
        pytest.skip("haproxy is not installed: apt-get install haproxy")
    stack = make_stack(msgspec.structs.replace(programs, haproxy="") if own else programs)
    stack.begin_drill("a dead API")
    stack.nodes[API_1].stop_service("api")
    assert [stack.get("/api/v1/health/ping").json()["name"] for _ in range(10)] == [API_2] * 10
    assert [register(stack, reference).status_code for reference in range(10)] == [201] * 10


# -- weaknesses


def test_without_health_checks_the_dead_get_their_share(make_stack: MakeStack) -> None:
    """A balancer that checks nobody goes on sending to an API that is gone."""
    stack = make_stack(health_checks=False)
    stack.nodes[API_1].stop_service("api")
    found = [stack.get("/api/v1/health/ping").status_code for _ in range(10)]
    assert sorted(set(found)) == [200, 503]


def test_without_timeouts_a_silent_cache_hangs_the_api(make_stack: MakeStack) -> None:
    """An API whose Redis client never gives up does not answer while Redis stands still."""
    stack = make_stack(timeouts=False, apis=1, balancer=False)
    stack.nodes["cache"].freeze()
    with pytest.raises(httpx.ReadTimeout):
        stack.get("/api/v1/companies/5")


def test_an_api_that_does_not_survive_a_full_log(make_stack: MakeStack) -> None:
    """With the weakness a full volume ends the process, and the supervisor cannot help."""
    stack = make_stack(survives_enospc=False, apis=1, balancer=False)
    fill(stack, API_1)
    with pytest.raises(httpx.HTTPError):
        for _ in range(MORE_THAN_A_PAGE):
            stack.get("/api/v1/companies")
    (stack.nodes[API_1].disk / "ballast").unlink()
    wait_for(lambda: f'"code": {EXIT_LOG_FULL}' in stack.supervisor_log(stack.api[0]), timeout_s=10, what="the supervisor to say so")
    stack.prove_healthy(20)
