"""A person's mistake is one clear line before anything is touched, and exit code 4."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin_project import Run, errors, said

DRILL = "import pytest\n@pytest.mark.drill({})\ndef test_a(drill): ...\n"
USAGE = pytest.ExitCode.USAGE_ERROR


def _refused(result: pytest.RunResult, project: pytest.Pytester, *parts: str) -> None:
    """One line, with these parts, exit code 4, no traceback and no state directory."""
    lines = errors(result)
    assert result.ret == USAGE, said(result)
    assert len(lines) == 1, said(result)
    for part in parts:
        assert part in lines[0]
    assert "Traceback" not in said(result)
    assert "passed" not in said(result)
    assert not (project.path / ".gameday").exists()


MARKERS: list[tuple[str, list[str]]] = [
    ('rto="5 parsecs"', ["rto: '5 parsecs' is not a duration", "30s"]),
    ("rto=-1", ["rto: -1 is not a duration"]),
    ("rto=True", ["rto: True is not a duration"]),
    ("rto=[1]", ["rto=[1] is not a duration"]),
    ('rpo="few"', ["rpo: 'few' is not a duration"]),
    ("rpo=-3", ["rpo=-3"]),
    ("rpo=0.5", ["rpo=0.5", "number of writes", "time"]),
    ('availability="101%"', ["availability='101%'", "99.9%"]),
    ('rto_from="later"', ["rto_from='later'", '"heal"']),
    ('"db-primary-failur"', ["unknown scenario 'db-primary-failur'", "did you mean 'db-primary-failure'?", "gameday.toml"]),
    ('"a", "b"', ["one positional argument"]),
    ('rot="5s"', ["no argument 'rot'", "did you mean 'rto'?"]),
    ('expect="FAILS", because="rpo"', ["expect='FAILS'", "PASS, FAIL"]),
    ('expect="FAIL"', ["needs a reason", 'because="rpo"']),
    ('because="rpo"', ["goes with an expected failure"]),
    ('expect="FAIL", because="Too slow!"', ["because='Too slow!'"]),
    ('environments=["dokcer"]', ["unknown environment 'dokcer'", "did you mean 'docker'?"]),
    ('environments=["staging"]', ["unknown environment 'staging'", "[environments.staging]", "gameday.toml"]),
    ('environments="docker"', ["environments='docker'", "a list of names"]),
    ("repeat=0", ["repeat=0"]),
    ('until="FAIL"', ["until='FAIL' is about repeats", "repeat=N"]),
    ('repeat=2, until="BAD"', ["until='BAD'"]),
]


def test_every_bad_marker_argument_is_one_line(project: pytest.Pytester, run: Run) -> None:
    """Every argument of the marker is checked while pytest collects; each line says where, what and what would do."""
    drills = [f"@pytest.mark.drill({arguments})\ndef test_{number}(drill): ..." for number, (arguments, _) in enumerate(MARKERS)]
    path = project.makepyfile("\n".join(["import pytest", *drills]))
    result = run()
    lines = errors(result)
    assert result.ret == USAGE
    assert len(lines) == len(MARKERS), said(result)
    for number, (line, (_, parts)) in enumerate(zip(lines, MARKERS, strict=True)):
        assert f"{path.name}:{2 * number + 2}: test_{number}: " in line
        for part in parts:
            assert part in line
    assert "Traceback" not in said(result)
    assert not (project.path / ".gameday").exists()


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("import pytest\n@pytest.mark.drill\ndef test_a(): ...", ["marked as a drill", "fixture 'drill'"]),
        ("def test_a(drill): ...", ["uses the fixture 'drill'", "@pytest.mark.drill"]),
        ("import pytest\n@pytest.mark.drill\n@pytest.mark.docker\nclass TestX:\n    def test_a(self): ...", ["marked as a drill"]),
    ],
)
def test_marker_and_fixture_belong_together(project: pytest.Pytester, run: Run, source: str, parts: list[str]) -> None:
    """The marker without the fixture, or the fixture without the marker, is refused."""
    project.makepyfile(source)
    _refused(run(), project, *parts)


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--drill-env", "embeded"], ["--drill-env", "unknown environment 'embeded'", "did you mean 'embedded'?"]),
        (["--drill-env", "staging"], ["unknown environment 'staging'", "gameday.toml", "does not exist"]),
        (["--drill-require", "dockre"], ["--drill-require dockre", "did you mean 'docker'?"]),
        (["--drill-require", "docker:"], ["ENV:CAPABILITY"]),
        (["--drill-repeat", "0"], ["--drill-repeat '0'", "at least 1"]),
        (["--drill-repeat", "many"], ["--drill-repeat 'many'"]),
        (["--drill-seed", "1.5"], ["--drill-seed '1.5'"]),
        (["--drill-until", "NEVER"], ["--drill-until 'NEVER'", "FAIL"]),
        (["--drill-pg-bin", "nowhere"], ["--drill-pg-bin", "nowhere", "'postgres'"]),
        (["--drill-dir", "pytest.ini"], ["--drill-dir", "pytest.ini", "not a directory"]),
        (["-o", "drill_env=embeded"], ["unknown environment 'embeded'"]),
        (["-o", "drill_pg_bin=nowhere"], ["nowhere", "'postgres'"]),
        (["-m", "stagin"], ["-m stagin", "gameday.toml"]),
        (["-m", "staging"], ["-m staging", "no marker or environment 'staging'", "[environments.staging]", "gameday.toml"]),
        (["-m", "embedded and not dril"], ["-m dril", "did you mean 'drill'?"]),
    ],
)
def test_a_bad_option_is_one_line(project: pytest.Pytester, run: Run, args: list[str], parts: list[str]) -> None:
    """Options and ini values are all checked before the first test, whether a drill would read them or not."""
    project.makepyfile(DRILL.format(""))
    _refused(run(*args), project, *parts)


def test_the_environment_variable_is_checked_too(project: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that nothing answers to in ``DRILL_REQUIRE`` is refused, so that a typo cannot switch the requirement off."""
    monkeypatch.setenv("DRILL_REQUIRE", "embedded,dokcer")
    project.makepyfile(DRILL.format(""))
    _refused(run(), project, "--drill-require dokcer", "did you mean 'docker'?")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[environments.staging]\n", ["environments.staging", "kind"]),
        ('[environments.staging]\nkind = "ssh"\nidentity = 5\n', ["environments.staging.identity", "int"]),
        ('[environments.staging]\nkind = "ssh"\nidentity = "x"\ntier = "prod"\n', ["environments.staging.tier", "prod"]),
        ('[environments.staging]\nkind = "ssh"\nidentity = "x"\ncolour = "red"\n', ["environments.staging", "colour"]),
        ('[environments.docker]\nkind = "ssh"\nidentity = "x"\n', ["environments.docker", "taken"]),
        ('[environments.my-cluster]\nkind = "ssh"\nidentity = "x"\n', ["environments.my-cluster", "marker"]),
        ('[scenarios.mine]\nname = "Mine"\nrto = "soon"\n', ["scenarios.mine", "rto: 'soon'"]),
        ("[environments\n", ["not valid TOML", "(at "]),
    ],
)
def test_a_bad_configuration_file_is_one_line(project: pytest.Pytester, run: Run, text: str, parts: list[str]) -> None:
    """Errors in ``gameday.toml`` name the file and the key."""
    project.makefile(".toml", gameday=text)
    project.makepyfile("def test_a(): ...")
    _refused(run(), project, "gameday.toml", *parts)


def test_a_system_fixture_checks_its_own_marker(project: pytest.Pytester, run: Run) -> None:
    """A mistake in a system's marker is refused before anything is touched, where its fixture offers a check."""
    project.makeconftest(
        """
        import pytest
        from chaos import BadInput
        from chaos.plugin.hookspecs import SystemSupport

        def check(item):
            if item.get_closest_marker("box").kwargs["size"] < 1:
                raise BadInput("a box has a size", where=item.nodeid)

        def pytest_configure(config):
            config.addinivalue_line("markers", "box(size): a box")

        def pytest_gameday_systems():
            return [SystemSupport("box", ("embedded",), check)]

        @pytest.fixture
        def box(environment): ...
        """
    )
    project.makepyfile("import pytest\n@pytest.mark.drill\n@pytest.mark.box(size=0)\ndef test_a(drill, box): ...")
    _refused(run(), project, "test_a[embedded]: a box has a size")


def test_a_standing_environment_without_provider_is_refused(project: pytest.Pytester, run: Run) -> None:
    """A declared environment of a kind that nothing installed can reach is refused where it is named, and collected fine."""
    project.makefile(".toml", gameday='[environments.staging]\nkind = "kubernetes"\nidentity = "7c1e"\n')
    project.makepyfile(DRILL.format(""))
    assert run("--collect-only", "-m", "staging").ret == 0
    _refused(run("-m", "staging"), project, "environments.staging", "no provider", "'kubernetes'")


def test_a_project_can_declare_scenarios(project: pytest.Pytester, run: Run) -> None:
    """A scenario of ``gameday.toml`` is as good as a shipped one."""
    project.makefile(".toml", gameday='[scenarios.mine]\nname = "Mine"\nrto = "5m"\nrpo = 0\n')
    project.makepyfile(DRILL.format('"mine"'))
    assert run("--collect-only").ret == 0


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 1 MiB, where this user may mount one."""
    place = tmp_path / "tiny"
    place.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "gameday-test", str(place)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting a tmpfs: {done.stderr.strip()}; run as root to test this")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, capture_output=True)


def test_a_full_disk_is_found_before_the_first_drill(project: pytest.Pytester, run: Run, tiny_disk: Path) -> None:
    """A state directory without room for the evidence is refused before anything is set up."""
    project.makepyfile(DRILL.format(""))
    _refused(run("--drill-dir", tiny_disk / "state"), project, str(tiny_disk), "64 MiB", "--drill-dir")
