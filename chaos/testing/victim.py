"""``python -m chaos.testing.victim SPEC-JSON``: breaks one node as a drill would, with a healer and every other net, and stands still where
it is told to, so that it can be ended there. A program for the crash suite and the benches, and no test of its own.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from chaos.core.errors import GamedayError, Unavailable
from chaos.engine.injection import InjectedFault
from chaos.engine.nets import Nets
from chaos.environments.registry import reopen
from chaos.faults.base import Fault
from chaos.testing.places import Catalogue, Place
from chaos.testing.stops import DONE, FAILED, STARTED, UNAVAILABLE, Spec, Stops
from chaos.testing.tools import nothing

RUN = "crash"
SEED = 1


@contextlib.contextmanager
def place_of(spec: Spec, catalogue: Catalogue) -> Iterator[Place]:
    """Opened here, to end with this process; or, where it is somebody else's, only reached."""
    if spec.attached is None:
        with catalogue.places[spec.place](Path(spec.state) / "place") as place:
            yield place
        return
    environment = reopen(spec.attached.kind, spec.attached.settings)
    environment.open(run_id=f"{RUN}-{os.getpid()}", state_dir=Path(spec.state) / "place")
    try:
        yield Place(spec.place, spec.attached.refs, environment.resolve, environment)
    finally:
        environment.close()


def drill(spec: Spec) -> None:
    """The life of a fault, as often as the spec says. Raises what a fault raises."""
    stops = Stops(spec)
    catalogue = Catalogue.read(Path(spec.catalogue))
    with place_of(spec, catalogue) as place:
        assert place.environment is not None, f"{spec.place} has no environment"
        nets = Nets(place.environment, Path(spec.state) / "journal", f"{RUN}-{os.getpid()}")
        try:
            nets.prepare()
            fault = stops.spied(catalogue.examples[spec.kind][spec.example](*place.refs))
            nets.ready()
            stops.healer = nets.healer_pid
            stops.say(STARTED)
            for number in range(1, spec.cycles + 1):
                once(fault, f"{RUN}-{SEED:08x}-{number}", place, nets, stops)
        finally:
            nets.close()
    stops.say(DONE)


def once(fault: Fault, fault_id: str, place: Place, nets: Nets, stops: Stops) -> None:
    """Broken and put back."""
    running = InjectedFault(
        fault,
        fault_id,
        place.resolve,
        nets.journal,
        nothing,
        cause=False,
        origin=nets.origin,
        switch=nets.switch,
        at=stops.at,
    )
    try:
        running.inject(f"{RUN} {fault.kind}")
    finally:
        running.heal()


def main(argv: list[str]) -> int:
    """0 where it came to its end; what went wrong is said as the last line."""
    spec = msgspec.json.decode(argv[0], type=Spec)
    try:
        drill(spec)
    except Unavailable as err:
        Stops(spec).say(UNAVAILABLE, str(err), err.capability)
        return 1
    except GamedayError as err:
        Stops(spec).say(FAILED, f"{type(err).__name__}: {err}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
