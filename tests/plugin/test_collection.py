"""Where drills run: parametrisation by environment, selection by marker and option, and how little collection touches."""

from __future__ import annotations

import importlib.util

import pytest
from plugin_project import Run, collected, errors, said

SUITE = '''
import pytest

@pytest.mark.drill("db-primary-failure", rto="30s")
def test_everywhere(drill):
    """Runs wherever it can."""

@pytest.mark.drill(environments=["docker"])
def test_docker_only(drill):
    """Runs in containers."""

@pytest.mark.docker
def test_no_drill(environment):
    """Needs an environment and is no drill."""

def test_plain():
    """Needs nothing."""
'''
STAGING = '[environments.staging]\nkind = "kubernetes"\nidentity = "7c1e"\n'
SYSTEMS = """
import pytest
from chaos.plugin.hookspecs import SystemSupport

def pytest_gameday_systems():
    return [SystemSupport("boxes", ("embedded", "kubernetes")), SystemSupport("containers", ("docker",))]

@pytest.fixture
def boxes(environment): ...

@pytest.fixture
def containers(environment): ...
"""
ON_SYSTEMS = """
import pytest

@pytest.mark.drill
def test_boxes(drill, boxes): ...

@pytest.mark.drill
def test_containers(containers, drill): ...
"""


def test_a_drill_becomes_one_item_per_disposable_environment(project: pytest.Pytester, run: Run) -> None:
    """A drill that no fixture restricts is collected once for each disposable environment, in a fixed order."""
    project.makepyfile(SUITE)
    assert collected(run("--collect-only", "-q")) == [
        "test_everywhere[embedded]",
        "test_everywhere[docker]",
        "test_docker_only[docker]",
        "test_no_drill[docker]",
        "test_plain",
    ]


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ("embedded", ["test_everywhere[embedded]"]),
        ("local and docker", ["test_everywhere[docker]", "test_docker_only[docker]", "test_no_drill[docker]"]),
        ("drill and not docker", ["test_everywhere[embedded]"]),
        ("not local", ["test_plain"]),
    ],
)
def test_items_carry_the_markers_of_their_environment(project: pytest.Pytester, run: Run, expression: str, chosen: list[str]) -> None:
    """``-m`` selects drills by environment and by ``local``."""
    project.makepyfile(SUITE)
    assert collected(run("--collect-only", "-q", "-m", expression)) == chosen


def test_the_option_selects_environments(project: pytest.Pytester, run: Run) -> None:
    """``--drill-env`` keeps drills of the named environments and leaves tests without one alone."""
    project.makepyfile(SUITE)
    result = run("--collect-only", "-q", "--drill-env", "embedded")
    assert collected(result) == ["test_everywhere[embedded]", "test_plain"]
    assert "2 deselected" in said(result)
    assert len(collected(run("--collect-only", "-q", "--drill-env", "embedded,docker"))) == 5


def test_system_fixtures_say_where_a_drill_can_run(project: pytest.Pytester, run: Run) -> None:
    """A drill is collected only in environments that all of its system fixtures support."""
    project.makeconftest(SYSTEMS)
    project.makepyfile(ON_SYSTEMS)
    assert collected(run("--collect-only", "-q")) == ["test_boxes[embedded]", "test_containers[docker]"]


def test_a_standing_environment_is_collected_only_where_it_is_named(project: pytest.Pytester, run: Run) -> None:
    """Items of a standing environment appear for a positive ``-m`` or ``--drill-env``, and for nothing else."""
    project.makeconftest(SYSTEMS)
    project.makepyfile(ON_SYSTEMS)
    project.makefile(".toml", gameday=STAGING)
    for plain in ([], ["-m", "not embedded"], ["-m", "drill and not (embedded or staging)"], ["-k", "staging"]):
        assert "staging" not in "".join(collected(run("--collect-only", "-q", *plain)))
    assert collected(run("--collect-only", "-q", "-m", "staging")) == ["test_boxes[staging]"]
    assert collected(run("--collect-only", "-q", "--drill-env=staging")) == ["test_boxes[staging]"]


def test_repeats_are_items_of_their_own(project: pytest.Pytester, run: Run) -> None:
    """``--drill-repeat`` and ``repeat=`` number the items of a drill."""
    project.makepyfile('import pytest\n@pytest.mark.drill(repeat=2, environments=["docker"])\ndef test_a(drill): ...')
    assert collected(run("--collect-only", "-q")) == ["test_a[docker-1]", "test_a[docker-2]"]
    assert len(collected(run("--collect-only", "-q", "--drill-repeat", "3"))) == 3


def test_collecting_touches_nothing(project: pytest.Pytester, run: Run) -> None:
    """``--collect-only`` makes no file, asks for no free space and opens no environment."""
    project.makepyfile(SUITE)
    run("--collect-only", "-q", "-p", "no:cacheprovider", "--drill-dir", "state")
    made_by_pytester = {"__pycache__", "runpytest-0", "runpytest-current", "stdout", "stderr"}
    assert {path.name for path in project.path.iterdir()} - made_by_pytester == {"pytest.ini", "test_collecting_touches_nothing.py"}


@pytest.mark.parametrize("plugins_off", [("-p", "no:xdist"), ("-p", "no:html"), ("-p", "no:xdist", "-p", "no:html")])
def test_collection_needs_neither_xdist_nor_html(project: pytest.Pytester, run: Run, plugins_off: tuple[str, ...]) -> None:
    """Drills are collected with the optional neighbours switched off."""
    project.makepyfile(SUITE)
    assert len(collected(run("--collect-only", "-q", *plugins_off))) == 5


def test_a_project_may_have_fixtures_of_the_same_names(project: pytest.Pytester, run: Run) -> None:
    """A project that has its own ``environment`` fixture, and no drill, is left alone."""
    project.makepyfile(
        """
        import pytest

        @pytest.fixture
        def environment():
            return "mine"

        def test_mine(environment):
            assert environment == "mine"
        """
    )
    run().assert_outcomes(passed=1)


def test_markers_are_listed(project: pytest.Pytester, run: Run) -> None:
    """``--markers`` explains the drill marker and one marker for each known environment."""
    project.makefile(".toml", gameday=STAGING)
    result = run("--markers")
    for name in ("drill(scenario=None", "local:", "embedded:", "docker:", "staging:"):
        result.stdout.fnmatch_lines([f"@pytest.mark.{name}*"])


def test_options_have_a_group_and_a_prefix(project: pytest.Pytester, run: Run) -> None:
    """Every option stands in one group of ``--help`` and begins with ``--drill-``."""
    text = run("--help").stdout.str()
    group = text.partition("disaster-recovery drills (pytest-gameday):")[2].partition("\n\n")[0]
    options = [line.split()[0].split("=")[0] for line in group.splitlines() if line.strip().startswith("-")]
    assert len(options) >= 9
    assert all(option.startswith("--drill-") for option in options)


@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="pytest-xdist is not installed")
def test_bad_input_under_xdist_is_the_same_one_line(project: pytest.Pytester, run: Run) -> None:
    """Workers hand a mistake to the controller, which prints it once and exits with 4."""
    project.makepyfile('import pytest\n@pytest.mark.drill(rto="5 parsecs")\ndef test_a(drill): ...\ndef test_b(): ...')
    result = run("-n2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert len(errors(result)) == 1
    assert "5 parsecs" in errors(result)[0]
    assert "passed" not in said(result)
