"""``make bench``: every bench of this directory, one after the other, each in a process of its own. Measures nothing itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def benches() -> list[str]:
    """The modules here that can be run."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [file.stem for file in files if not file.stem.startswith("_") and '__name__ == "__main__"' in file.read_text(encoding="utf-8")]


def main() -> int:
    """1 where a bench did not reach its figure."""
    failed = []
    for name in sys.argv[1:] or benches():
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False, cwd=Path(__file__).resolve().parent.parent).returncode:
            failed.append(name)
    if failed:
        print(f"\nnot reached: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
