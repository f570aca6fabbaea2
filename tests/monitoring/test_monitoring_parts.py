"""The parts of the monitoring that need no Prometheus: what the exporter says, and what the marker takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaos import BadInput
from fixtures.monitoring import exporter
from fixtures.monitoring.plugin import HERE, parameters_of


def values(lines: list[str]) -> dict[str, float]:
    """Metric -> value, labels left out."""
    return {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_the_exporter_says_what_the_kernel_says() -> None:
    """Size and free bytes of a mounted file system are statvfs' own, under the names of prometheus-node-exporter, with its labels."""
    lines = list(exporter.lines_of(["disk=/"]))
    seen, said = os.statvfs("/"), values(lines)
    assert said["node_filesystem_size_bytes"] == seen.f_blocks * seen.f_frsize
    assert abs(said["node_filesystem_avail_bytes"] - seen.f_bavail * seen.f_frsize) < seen.f_blocks * seen.f_frsize / 100
    assert said["node_filesystem_device_error"] == 0
    assert all('mountpoint="/"' in line and 'fstype=""' not in line for line in lines)


def test_a_volume_that_is_not_there_is_an_error_and_no_number(tmp_path: Path) -> None:
    """Nothing is said of the size of a mount point that cannot be looked at."""
    (line,) = exporter.lines_of([f"disk={tmp_path / 'gone'}"])
    assert line.startswith("node_filesystem_device_error{") and line.endswith(" 1")


def test_a_redis_that_is_not_there_is_down() -> None:
    """Where nobody listens, redis_up is 0."""
    assert list(exporter.lines_of(["redis=1"])) == ["redis_up 0"]


@pytest.mark.parametrize("arguments", [["9100"], ["9100", "memory=/"]])
def test_the_exporter_refuses_what_it_does_not_know(arguments: list[str]) -> None:
    """Nothing to export, or something unknown: it ends at once and says what it takes."""
    argv = [sys.executable, "-I", "-S", str(HERE / "exporter.py"), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1 and "expected disk=MOUNTPOINT or redis=PORT" in done.stderr


def test_the_marker_names_a_file_of_rules_that_is_there(request: pytest.FixtureRequest) -> None:
    """Without a marker the rules are rules.yml; a file that is not there, or anything else in the marker, is a mistake that is named."""
    assert parameters_of(request.node).rules == "rules.yml"
    for mark, complaint in (
        (pytest.mark.monitoring(rules="rules-wrong-volume.yml"), ""),
        (pytest.mark.monitoring(rules="none.yml"), r"one of rules-wrong-volume\.yml, rules\.yml; observed none\.yml"),
        (pytest.mark.monitoring(rule="rules.yml"), "not understood"),
        (pytest.mark.monitoring("rules.yml"), "named arguments only"),
    ):
        request.node.own_markers.clear()
        request.node.add_marker(mark)
        if complaint:
            with pytest.raises(BadInput, match=complaint):
                parameters_of(request.node)
        else:
            assert parameters_of(request.node).rules == "rules-wrong-volume.yml"
