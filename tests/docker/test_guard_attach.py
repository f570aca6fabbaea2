"""The guard over an attached project, from the command line: a dry run that leaves no trace, and refusals by identity."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from attach_containers import Project

from chaos.core.clock import wait_for
from chaos.environments.docker.attach import DockerAttach

pytestmark = pytest.mark.docker_engine

FILE = """[environments.staging]
kind = "docker-attach"
identity = {{ engine = "{engine}", target = "{target}" }}
allow = {{ faults = ["pause", "power-loss", "partition"], nodes = ["db", "web-*"] }}
caps = {{ max_unavailable = 2 }}
settings = {{ project = "{project}" }}
"""
DRILL = '''
import pytest
from chaos import Partition, Pause, PowerLoss, Together

@pytest.mark.drill
def test_all_of_it(drill, attached):
    """The database is cut off, a web server stands still, then another one loses its power."""
    with drill.inject(Together(Partition.isolate(attached["db"], [attached["web-1"]]), Pause(attached["web-1"]))):
        pass
    with drill.inject(PowerLoss(attached["web-2"])):
        pass
'''


@pytest.fixture
def box(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project of drills, away from this run's options and state."""
    for name in [name for name in os.environ if name.startswith(("DRILL_", "PYTEST_", "GAMEDAY_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(pytester.path / "state"))
    pytester.makefile(".ini", pytest="[pytest]\naddopts = --strict-markers\n")
    pytester.makepyfile(DRILL)
    return pytester


def _pinned(project: Project) -> dict[str, str]:
    environment = DockerAttach(project=project.name, name="staging")
    try:
        return environment.identity()
    finally:
        environment.close()


def _seen(project: Project) -> dict[str, Any]:
    """All that the engine says of the containers."""
    return {name: project.api.inspect_container(one) for name, one in project.containers.items()}


def _run(box: pytest.Pytester, *args: str) -> str:
    result = box.runpytest_subprocess("-m", "staging", "-rs", *args, timeout=240)
    return "\n".join([*result.outlines, *result.errlines])


def test_a_dry_run_leaves_every_container_as_it_was(box: pytest.Pytester, project: Project) -> None:
    """A dry run plans three faults on real containers, shows each with its undo, and the engine sees no difference afterwards."""
    pinned = _pinned(project)
    box.makefile(".toml", gameday=FILE.format(engine=pinned["engine"], target=pinned["target"], project=project.name))
    environment = DockerAttach(project=project.name, name="staging")
    environment.open(run_id="look", state_dir=box.path)
    project.scope = environment._scope()
    states = {name: node.state() for name, node in environment.nodes().items()}
    before = _seen(project)
    text = _run(box, "--drill-dry-run")
    assert "3 fault(s) planned, nothing was changed" in text, text
    for word in ("partition", "pause", "power-loss", "db", "web-1", "web-2", "dead-man", "permitted"):
        assert word in text, text
    assert _seen(project) == before
    assert {name: node.state() for name, node in environment.nodes().items()} == states
    environment.close()
    wait_for(lambda: not project.ours(), timeout_s=15, what="everything of ours to be gone", interval_s=0.2)
    assert not (box.path / "state").exists()


def test_another_engine_or_project_is_refused(box: pytest.Pytester, project: Project) -> None:
    """With another engine pinned nothing is touched, and the refusal shows both."""
    pinned = _pinned(project)
    box.makefile(".toml", gameday=FILE.format(engine="ABCD:EFGH", target=pinned["target"], project=project.name))
    before = _seen(project)
    text = _run(box)
    assert "refused: " in text and "expected engine = 'ABCD:EFGH'" in text and f"observed engine = '{pinned['engine']}'" in text, text
    assert _seen(project) == before
    doctor = box.run(sys.executable, "-c", "from chaos.cli import main; main()", "doctor", "staging", timeout=120)
    assert doctor.ret == 1 and "cannot run drills here" in doctor.stdout.str(), doctor.stdout.str()


def test_what_is_not_allowed_on_a_real_container_is_refused(box: pytest.Pytester, project: Project) -> None:
    """A container beyond the list is refused by name while everything else of the drill would be fine."""
    pinned = _pinned(project)
    text = FILE.format(engine=pinned["engine"], target=pinned["target"], project=project.name).replace('"web-*"', '"web-2"')
    box.makefile(".toml", gameday=text)
    before = _seen(project)
    said = _run(box)
    assert "refused: " in said and "the node web-1 is not allowed here" in said, said
    assert _seen(project) == before
