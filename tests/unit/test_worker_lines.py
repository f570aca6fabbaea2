"""The shared, append-only file below every history."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

from chaos.measure._lines import LineFile, Scribe

_WRITER = """
import sys
from chaos.measure._lines import LineFile
file = LineFile(sys.argv[1])
for number in range(3000):
    file.add(b'["%s",%d,"%s"]\\n' % (sys.argv[2].encode(), number, b"x" * (number % 300)))
    if number % 7 == 0:
        file.flush()
assert file.flush()
"""

_LIMITED = """
import resource, signal, sys
from chaos.measure._lines import LineFile
path, limit = sys.argv[1], int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
file, other = LineFile(path), LineFile(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
for number in range(50):
    file.add(b"[%d]\\n" % number)
assert not file.flush() and file.trouble is not None and 0 < file.pending_lines < 50
assert not file.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
other.add(b'["other"]\\n')
assert other.flush()
assert file.flush() and file.trouble is None and file.pending_lines == 0
"""


def test_writers_of_one_file_never_mix_lines(tmp_path: Path) -> None:
    """Three processes that append at the same time leave whole lines, each writer's in its own order."""
    path = tmp_path / "lines"
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(path), name]) for name in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    seen: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for line in path.read_text().splitlines():
        name, number, _ = json.loads(line)
        seen[name].append(number)
    assert all(numbers == list(range(3000)) for numbers in seen.values())


def test_short_write_is_repaired(tmp_path: Path) -> None:
    """After a write that stopped within a line, and another writer's line after it, every line still decodes and none is missing."""
    for limit in range(90, 110):
        path = tmp_path / f"lines{limit}"
        subprocess.run([sys.executable, "-c", _LIMITED, str(path), str(limit)], check=True, timeout=60)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert sorted(line[0] for line in lines if line != ["other"]) == list(range(50))
        assert lines.count(["other"]) == 1


def test_flush_of_nothing_is_done(tmp_path: Path) -> None:
    """With nothing pending a flush succeeds and writes nothing."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)
    file = LineFile(tmp_path / "lines")
    assert file.flush() and file.pending_lines == 0
    file.close()
    assert (tmp_path / "lines").read_bytes() == b""


def test_a_disk_that_stands_still_holds_nobody_up(tmp_path: Path) -> None:
    """While nothing is taken, adding goes on and finishing says how many lines are left; once it is, all arrive in order."""
    path, lines, said = tmp_path / "pipe", [b"[%d]\n" % number for number in range(100_000)], list[str]()
    os.mkfifo(path)
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as reader:
        scribe = Scribe(LineFile(path), said.append)
        for line in lines:
            scribe.add(line)
        assert scribe.finish(0.1) > 50_000  # a pipe holds 64 KiB
        os.set_blocking(reader.fileno(), True)
        taken = b""
        while taken.count(b"\n") < len(lines):
            taken += reader.read(1 << 20)
    assert taken == b"".join(lines) and said == []
