"""An API process is killed: its supervisor starts it again, and meanwhile the balancer sends everything to the other."""

import pytest

from chaos import Kill, NotHealthy


def starts(webstack, api):
    """How often the supervisor has started its API."""
    return webstack.supervisor_log(api).count('"started"')


def restarted(webstack, api, before):
    """That the supervisor has started its API since."""
    if starts(webstack, api) == before:
        raise NotHealthy("not started again", where=api.name, observed=webstack.supervisor_log(api)[-300:])
    return webstack.supervisor_log(api).splitlines()[-1]


def answers_cleanly(webstack, api):
    """That since its last start the API has answered, and nothing with an error."""
    log = webstack.api_log(api)
    begun = max(number for number, line in enumerate(log) if line["event"] == "started")
    answered = [line for line in log[begun:] if line["event"] == "request" and "/health/" not in line["path"]]
    if not answered or (bad := [line for line in answered if line["status"] >= 500]):
        raise NotHealthy("the log is not clean", where=api.name, observed=str(bad[:3]) if answered else "no request was answered")
    return f"{len(answered)} requests since the restart, none with an error"


@pytest.mark.drill("api-crash", rto="4s", rpo=0)
def test_api_killed(drill, webstack):
    """The balancer hides the death of one API, and its supervisor has it back, with a clean log, before anybody repairs anything."""
    reads = drill.workload(webstack.reads(rate=100, timeout_s=0.35))
    writes = drill.workload(webstack.writes(rate=50, timeout_s=0.35))
    victim, before = webstack.api[0], starts(webstack, webstack.api[0])
    with drill.inject(Kill(victim, process="webapi")):
        drill.check("restarted by its supervisor", lambda: restarted(webstack, victim, before), within="5s")
        reads.wait_recovered()
        writes.wait_recovered()
        drill.check("its log is clean", lambda: answers_cleanly(webstack, victim))


@pytest.mark.webstack(restart=False, apis=1, balancer=False)
@pytest.mark.drill("api-crash", rto="4s", rpo=0, expect="FAIL", because="rto")
def test_a_single_api_that_nobody_restarts(drill, webstack):
    """A single API without a restart policy stays away until somebody starts it."""
    drill.workload(webstack.reads(rate=100, timeout_s=0.35))
    drill.workload(webstack.writes(rate=50, timeout_s=0.35))
    with drill.inject(Kill(webstack.api[0], process="webapi")):
        drill.observe(4.5)
