"""Where faults are tried out: places with three nodes, examples of faults on them, and the file that names both.

The file (a *catalogue*) defines ``PLACES`` and ``EXAMPLES``, and may define ``worthwhile``, ``OVER``, ``UNSEEN``, ``LASTING`` and
``leftovers``; see ``docs/writing-faults.md``. Nothing here breaks anything.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

from chaos.core.clock import wait_for
from chaos.core.errors import BadInput
from chaos.core.model import Json, NodeRef
from chaos.environments.base import Environment, Exec, Freeze, Link, Node, PacketFilter, Power, ReadOnlyVolumes, Services, Volumes
from chaos.faults.base import Fault, Resolve

OF_FAULTS = ".gameday-"
Three: TypeAlias = tuple[NodeRef, NodeRef, NodeRef]
Example: TypeAlias = Callable[[NodeRef, NodeRef, NodeRef], Fault]
Open: TypeAlias = Callable[[Path], contextlib.AbstractContextManager["Place"]]
Worthwhile: TypeAlias = Callable[[str, str, str], bool]
Leftovers: TypeAlias = Callable[[str, int], Sequence[str]]


def nothing_left() -> Sequence[str]:
    """Of a place that keeps nothing beside its nodes."""
    return ()


@dataclass(frozen=True)
class Place:
    """Three nodes with a running service each. ``resolve`` makes a node object from a reference alone, a new one each time.

    ``environment`` is what the nodes belong to; the crash suite needs it. ``leftovers`` names what is left beside the nodes when nothing is
    broken any more and should not be (helper containers), by a look at the real thing.
    """

    name: str
    refs: Three
    resolve: Resolve
    environment: Environment | None = None
    leftovers: Callable[[], Sequence[str]] = nothing_left

    @property
    def nodes(self) -> list[Node]:
        return [self.resolve(ref) for ref in self.refs]

    def states(self) -> list[dict[str, Json]]:
        return [node.state() for node in self.nodes]


@dataclass(frozen=True)
class Catalogue:
    """What one file says. Kinds in ``over`` (everywhere, or as ``place:kind`` there) have no effect left once they are injected, those in
    ``unseen`` one that only their own proof sees (a node's state does not), and what those in ``lasting`` did stays done: their landed
    proof is there after the heal, too. ``leftovers`` names what a process (a pid) that made its own place of that name has left of it
    outside of itself."""

    path: Path
    places: Mapping[str, Open]
    examples: Mapping[str, Mapping[str, Example]]
    worthwhile: Worthwhile
    leftovers: Leftovers
    over: frozenset[str] = field(default=frozenset({"noop"}))
    unseen: frozenset[str] = field(default=frozenset())
    lasting: frozenset[str] = field(default=frozenset())

    def soon_over(self, place: str, kind: str) -> bool:
        """Does this kind of fault leave nothing to be healed there?"""
        return kind in self.over or f"{place}:{kind}" in self.over

    @classmethod
    def read(cls, path: Path) -> Catalogue:
        """Run the file and take what it defines. One that is imported already is not run again.

        Raises:
            BadInput: there is no such file, or it defines no places or no examples.
        """
        path = path.resolve()
        if not path.is_file():
            raise BadInput("there is no such catalogue of places and examples", where=str(path))
        module = _imported(path) or _run(path)
        for name in ("PLACES", "EXAMPLES"):
            if not isinstance(getattr(module, name, None), Mapping):
                raise BadInput(f"the catalogue defines no {name}", where=str(path), expected="a mapping, see docs/writing-faults.md")
        sets = {name: frozenset(getattr(module, name.upper())) for name in ("over", "unseen", "lasting") if hasattr(module, name.upper())}
        worthwhile, leftovers = getattr(module, "worthwhile", always), getattr(module, "leftovers", none_left)
        return cls(path, module.PLACES, module.EXAMPLES, worthwhile, leftovers, **sets)

    def pairs(self, place: str) -> list[tuple[str, str]]:
        """Kind and example of every fault that is worth its time there."""
        return [(kind, name) for kind, examples in self.examples.items() for name in examples if self.worthwhile(place, kind, name)]


def always(place: str, kind: str, example: str) -> bool:
    """Every example everywhere."""
    return True


def none_left(place: str, pid: int) -> Sequence[str]:
    """Of places that are gone with the process that made them."""
    return ()


def _imported(path: Path) -> ModuleType | None:
    return next((module for module in [*sys.modules.values()] if getattr(module, "__file__", None) == str(path)), None)


def _run(path: Path) -> ModuleType:
    """Under the name by which its neighbours would import it, from its own directory."""
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise BadInput("this is no Python file", where=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def beside(cls: type, name: str) -> Path:
    """A path that a test class names relative to its own file."""
    return Path(inspect.getfile(cls)).parent / name


def put_back(place: Place, before: Sequence[Mapping[str, Json]], *, within_s: float = 20.0) -> None:
    """Undo by other means than a fault's own whatever a failed test may have left, and wait until all nodes are as they were."""
    for node in place.nodes:
        if isinstance(node, Power):
            node.power_on()
        if isinstance(node, Freeze):
            node.thaw()
        if isinstance(node, Link):
            node.link_up()
        if isinstance(node, PacketFilter):
            for tag in node.drops():
                node.undrop(tag)
        _clean_disks(node)
        if isinstance(node, Services):
            for service in node.services():
                node.start_service(service)
    wait_for(lambda: place.states() == before, timeout_s=within_s, what="the nodes to be as they were", interval_s=0.1)


def _clean_disks(node: Node) -> None:
    if not isinstance(node, Volumes):
        return
    for volume in node.volumes():
        if isinstance(node, ReadOnlyVolumes):
            node.set_read_only(volume.path, on=False)
        if isinstance(node, Exec):
            node.run(("sh", "-c", f'rm -rf -- "$1"/{OF_FAULTS}*', "sh", volume.path), privileged=True)
