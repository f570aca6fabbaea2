"""The command ``gameday``: right uses, and one clean line for a person's mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chaos import __version__

COMMAND = [sys.executable, "-c", "from chaos.cli import main; main()"]


def _gameday(cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *args], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def _one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Exit code 4 and one line on stderr that holds these parts."""
    assert done.returncode == 4, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    for part in parts:
        assert part in done.stderr


def test_the_version_is_the_package_s(tmp_path: Path) -> None:
    """``gameday --version`` names the command and the version."""
    assert _gameday(tmp_path, "--version").stdout == f"gameday, version {__version__}\n"


def test_a_report_of_no_run_is_one_line(tmp_path: Path) -> None:
    """Where no drill ever ran, ``gameday report`` says how to run one."""
    _one_line(_gameday(tmp_path, "report"), "there is no run 'latest'", "gameday run")


def test_an_unknown_run_names_those_that_exist(tmp_path: Path) -> None:
    """A mistyped run id is answered with the newest runs."""
    (tmp_path / ".gameday" / "runs" / "20260101T000000Z-abcdef").mkdir(parents=True)
    _one_line(_gameday(tmp_path, "report", "20260101"), "'20260101'", "20260101T000000Z-abcdef")


def test_a_run_without_reports_says_so(tmp_path: Path) -> None:
    """A run whose drills never got to a verdict is not an empty page."""
    (tmp_path / ".gameday" / "runs" / "r1").mkdir(parents=True)
    _one_line(_gameday(tmp_path, "report", "r1"), "holds no report")


def test_the_doctor_refuses_a_name_it_does_not_know(tmp_path: Path) -> None:
    """``gameday doctor`` of an unknown environment is one line with the nearest name."""
    _one_line(_gameday(tmp_path, "doctor", "embeded"), "unknown environment 'embeded'", "did you mean 'embedded'?")


def test_the_doctor_shows_every_environment(tmp_path: Path) -> None:
    """``gameday doctor`` lists disposable and declared environments, and fails where one of them cannot work."""
    (tmp_path / "gameday.toml").write_text('[environments.staging]\nkind = "ssh"\nidentity = "x"\n', encoding="utf-8")
    done = _gameday(tmp_path, "doctor")
    assert done.returncode == 1
    assert [line.partition(":")[0] for line in done.stdout.splitlines() if line.startswith(("embedded:", "docker:", "staging:"))] == [
        "embedded",
        "docker",
        "staging",
    ]
    assert "no provider" in done.stdout
    assert not (tmp_path / ".gameday").exists()


def test_run_is_pytest_on_drills_alone(tmp_path: Path) -> None:
    """``gameday run`` collects only drills, in the named environment, and hands what follows -- to pytest."""
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "test_a.py").write_text(
        "import pytest\n@pytest.mark.drill\ndef test_drill(drill): ...\ndef test_other(): ...\n", encoding="utf-8"
    )
    done = _gameday(tmp_path, "run", "--env", "docker", "--seed", "7", "--repeat", "2", "-k", "drill", "--", "--collect-only", "-q")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "::" in line] == [
        "suites/test_a.py::test_drill[docker-1]",
        "suites/test_a.py::test_drill[docker-2]",
    ]


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--env", "nowhere"], ["--drill-env", "unknown environment 'nowhere'"]),
        (["-m", "dokcer"], ["-m dokcer", "did you mean 'docker'?"]),
        (["--seed", "x"], ["--drill-seed 'x'"]),
    ],
)
def test_run_passes_mistakes_on_as_one_line(tmp_path: Path, args: list[str], parts: list[str]) -> None:
    """What pytest refuses, ``gameday run`` refuses with the same line and exit code 4."""
    (tmp_path / "test_a.py").write_text("import pytest\n@pytest.mark.drill\ndef test_drill(drill): ...\n", encoding="utf-8")
    _one_line(_gameday(tmp_path, "run", *args), *parts)
