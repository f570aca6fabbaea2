"""What the plugin costs those who run no drill: ``pytest --collect-only`` on 1 000 empty tests, with the plugin and without.

Both are run in turns, so that what else the machine does falls on both; medians are compared.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.row import Row, command, finish

TESTS = 1000
FILES = 10
LIMIT = 1.10
WITHOUT = ("-p", "no:gameday")


def write_tests(folder: Path) -> None:
    """1 000 tests that do nothing, in ten files."""
    for number in range(FILES):
        functions = "\n\n".join(f"def test_{index}():\n    pass" for index in range(TESTS // FILES))
        (folder / f"test_empty_{number}.py").write_text(functions + "\n", encoding="utf-8")


def collect_s(folder: Path, *extra: str) -> float:
    """Wall time of one collection, interpreter start included."""
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", f"--rootdir={folder}", *extra, str(folder)]
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTEST_ADDOPTS", "DRILL_REQUIRE")}
    begin = time.monotonic()
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=120, check=True, env=environment)
    spent = time.monotonic() - begin
    if f"{TESTS} tests collected" not in done.stdout:
        raise SystemExit(f"expected {TESTS} tests collected; observed {done.stdout[-200:]!r}")
    return spent


def measure(rounds: int) -> tuple[float, float]:
    """Median seconds (with, without), after one unmeasured round that fills the bytecode caches."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tests(folder)
        with_s, without_s = [], []
        for number in range(rounds + 1):
            first, second = ((), WITHOUT) if number % 2 else (WITHOUT, ())
            spent = {arguments: collect_s(folder, *arguments) for arguments in (first, second)}
            if number:
                with_s.append(spent[()])
                without_s.append(spent[WITHOUT])
    return statistics.median(with_s), statistics.median(without_s)


def main(argv: Sequence[str]) -> int:
    """Print the table; 1 where the figure is not reached."""
    parser = command("plugin_cost", __doc__)
    parser.add_argument("--rounds", type=int, help="collections of each kind (default 11; quick: 3)")
    options = parser.parse_args(argv)
    with_s, without_s = measure(options.rounds or (3 if options.quick else 11))
    ratio = with_s / without_s
    measured = f"{ratio:.3f} × ({with_s:.3f} s against {without_s:.3f} s)"
    row = Row(f"pytest --collect-only on {TESTS} empty tests, with the plugin", f"≤ {LIMIT:.2f} × without", measured, ratio <= LIMIT)
    return finish([row], options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
