"""Choosing nodes by what they are: ``one``, ``minority``, ``majority``, ``primary``, ``replicas``, ``all``. Random where there is a choice,
and then by a seeded generator that is handed in, so that a run can be repeated."""

from __future__ import annotations

import random
from collections.abc import Sequence

from chaos.core.errors import BadInput
from chaos.core.model import NodeRef

SPECS = ("one", "minority", "majority", "primary", "replicas", "all")


def choose(spec: str, members: Sequence[NodeRef], *, chance: random.Random, primary: NodeRef | None = None) -> tuple[NodeRef, ...]:
    """The nodes that ``spec`` names, in the order of ``members``.

    ``minority`` is the largest number that is less than half, ``majority`` the smallest that is more than half; ``replicas`` is everybody
    but the primary.

    Raises:
        BadInput: an unknown word, a system without a primary, or nobody that fits (one of two has no minority but is half).
    """
    count = len(members)
    sizes = {"one": 1, "minority": (count - 1) // 2, "majority": count // 2 + 1, "all": count}
    if spec in ("primary", "replicas"):
        if primary is None:
            raise BadInput(f"{spec!r} needs a system that has a primary", expected=f"one of {', '.join(sizes)}")
        found = tuple(one for one in members if (one.name == primary.name) is (spec == "primary"))
    elif spec in sizes:
        picked = {one.name for one in chance.sample(list(members), min(sizes[spec], count))}
        found = tuple(one for one in members if one.name in picked)
    else:
        raise BadInput(f"unknown choice of nodes {spec!r}", expected=f"one of {', '.join(SPECS)}")
    if not found:
        raise BadInput(f"no node is {spec!r} among {count}", observed=", ".join(one.name for one in members) or "no members")
    return found
