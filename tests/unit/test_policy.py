"""``gameday.toml`` as typed policy: what it decodes to, and how each mistake is told, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.core.errors import BadInput
from chaos.engine.policy import (
    CloudWatchStop,
    HttpStop,
    ProbeStop,
    PrometheusStop,
    StandingEnvironment,
    condition_name,
    without_secrets,
)
from chaos.plugin.gamedayfile import read

WHOLE = """
[environments.staging]
kind = "docker-attach"
identity = { engine = "ABCD", project = "shop" }
tier = "staging"
description = "the shop's staging"
allow = { faults = ["pause", "kill"], nodes = ["pg-*"], labels = { "com.example.chaos" = "yes" } }
caps = { max_unavailable = "34%", per_role = { replica = 1 }, per_zone = { "*" = "50%" }, min_healthy_replicas = 1 }
freeze = [
  { cron = "0 9 * * 1-5", duration = "8h", timezone = "Europe/Berlin", reason = "office hours" },
]
stop_when = [
  { http = "https://shop.example/health", expect_text = "ok", poll = "1s" },
  { prometheus = "http://prom:9090", query = "error_rate", above = 0.05 },
  { cloudwatch_alarm = "shop-5xx", region = "eu-central-1" },
  { probe = "checks.py::queue_is_long", params = { most = 10 }, name = "queue" },
]
lease = { ttl = "30s", wait = "5m" }
approver = "ann"
kill_switch = { file = "/run/stop", env = "SHOP_STOP" }

[environments.staging.settings]
project = "shop"
"""


def _file(tmp_path: Path, text: str) -> Path:
    (tmp_path / "gameday.toml").write_text(text, encoding="utf-8")
    return tmp_path


def test_everything_that_can_be_said_is_decoded(tmp_path: Path) -> None:
    """Every table of a standing environment becomes its struct, and each stop condition the one that its key names."""
    staging = read(_file(tmp_path, WHOLE)).environments["staging"]
    assert staging.allow.faults == ("pause", "kill")
    assert staging.allow.labels == {"com.example.chaos": "yes"}
    assert (staging.caps.max_unavailable, staging.caps.min_healthy_replicas) == ("34%", 1)
    assert staging.freeze[0].timezone == "Europe/Berlin"
    assert [type(one) for one in staging.stop_when] == [HttpStop, PrometheusStop, CloudWatchStop, ProbeStop]
    assert condition_name(staging.stop_when[3]) == "queue"
    assert staging.approvers == ("ann",)
    assert staging.pinned == {"engine": "ABCD", "project": "shop"}
    assert staging.settings == {"project": "shop"}


def test_the_file_of_the_documentation_is_valid(tmp_path: Path) -> None:
    """The annotated ``gameday.toml`` of docs/guard.md decodes, with every table that a standing environment has."""
    page = (Path(__file__).parents[2] / "docs" / "guard.md").read_text(encoding="utf-8")
    environments = read(_file(tmp_path, page.partition("```toml\n")[2].partition("```")[0])).environments
    assert set(environments) == {"staging", "live"}
    unsaid = [name for name in StandingEnvironment.__struct_fields__ if name not in page]
    assert unsaid == []


HEAD = '[environments.staging]\nkind = "ssh"\nidentity = { host = "x" }\n'
MISTAKES: list[tuple[str, int, list[str]]] = [
    (HEAD + "alow = { faults = [] }\n", 4, ["environments.staging.alow", "unknown key 'alow'", "did you mean 'allow'?"]),
    (HEAD + '\nallow = { fault = ["kill"] }\n', 5, ["allow.fault", "did you mean 'faults'?"]),
    (HEAD + "[environments.staging.caps]\nmax_unavailabel = 1\n", 5, ["did you mean 'max_unavailable'?"]),
    (HEAD + 'caps = { max_unavailable = "many" }\n', 4, ["caps.max_unavailable", "'many' is no share", "34%"]),
    (HEAD + 'caps = { per_role = { replica = "340%" } }\n', 4, ["caps.per_role.replica", "340%"]),
    (HEAD + 'freeze = [\n  { cron = "@daily", duration = 1 },\n]\n', 5, ["freeze[0].cron", "five fields"]),
    (HEAD + 'freeze = [{ cron = "0 9 * * *", duration = "8h", timezone = "Europe/Berln" }]\n', 4, ["freeze[0].timezone", "Europe/Berln"]),
    (HEAD + 'freeze = [{ cron = "0 9 * * *", duration = "8 hours" }]\n', 4, ["freeze[0].duration", "not a duration"]),
    (HEAD + 'freeze = [{ cron = "0 9 * * *", duration = 0 }]\n', 4, ["freezes nothing or everything"]),
    (HEAD + 'stop_when = [\n  { htpp = "http://x" },\n]\n', 5, ["stop_when[0]", "did you mean 'http'?", "exactly one of http"]),
    (HEAD + 'stop_when = [{ http = "http://x", probe = "a:b" }]\n', 4, ["exactly one of http"]),
    (HEAD + 'stop_when = [{ prometheus = "http://x", query = "up" }]\n', 4, ["exactly one of above, below"]),
    (HEAD + 'stop_when = [{ http = "http://x", expect_staus = 200 }]\n', 4, ["stop_when[0].expect_staus", "did you mean 'expect_status'?"]),
    (HEAD + 'stop_when = [{ http = "http://x", poll = "10m" }]\n', 4, ["stop_when[0].poll", "0.1 to 60 seconds"]),
    (HEAD + 'lease = { ttl = "1s" }\n', 4, ["lease.ttl", "3 to 3600"]),
    (HEAD + 'second_key_sha256 = "abc"\n', 4, ["second_key_sha256"]),
    (HEAD + 'tier = "prod"\n', 4, ["environments.staging.tier", "prod"]),
    ('[environments.staging]\nkind = "ssh"\nidentity = {}\n', 3, ["environments.staging.identity", "a name alone is never enough"]),
    ('[environments.staging]\n\nkind = "ssh"\n', 1, ["environments.staging", "missing required field `identity`"]),
    ('# x\n[enviroments.staging]\nkind = "ssh"\n', 2, ["unknown key 'enviroments'", "did you mean 'environments'?"]),
    ('[scenarios.mine]\nname = "x"\n\nrtoo = "5m"\n', 4, ["scenarios.mine.rtoo", "did you mean 'rto'?"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "parts"), MISTAKES, ids=[parts[0] for _, _, parts in MISTAKES])
def test_a_mistake_is_told_with_file_line_and_key(tmp_path: Path, text: str, line: int, parts: list[str]) -> None:
    """Every mistake names the file, the line on which it stands, the key, and what would do."""
    with pytest.raises(BadInput) as caught:
        read(_file(tmp_path, text))
    said = str(caught.value)
    assert f"gameday.toml:{line}: " in said, said
    for part in parts:
        assert part in said


def test_an_address_is_named_without_its_secrets() -> None:
    """What names a condition in reports and logs holds neither password nor token of its address."""
    named = condition_name(HttpStop(http="https://ann:secret@shop.example:8443/health?token=hidden#x"))
    assert named == "http https://shop.example:8443/health"
    assert without_secrets("https://shop.example/a@b") == "https://shop.example/a@b"
