"""Compositions carried out by real drills: every fault of one is journalled, proven and healed by itself."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from plugin_project import Run

DRILLS = '''
import pytest
from chaos import Noop, Pause, Repeat, Sequence, Together

@pytest.mark.drill(rto="30s", rpo=0)
def test_composed(drill, box):
    """A freeze, a freeze with a control experiment, and three freezes in a row are all recovered from."""
    writes = drill.workload(box.writes())
    freeze = Pause(box.node.ref)
    with drill.inject(Sequence(freeze, Together(Noop(box.node.ref)), hold="300ms")):
        pass
    (node,) = drill.choose("all")
    with drill.inject(Repeat(Pause(node), every="600ms", times=3, hold="200ms")) as last:
        assert last.open and box.node.frozen()
    assert not last.open and not box.node.frozen()
    writes.wait_recovered()
'''


def test_every_fault_of_a_composition_is_one_of_its_own(box: pytest.Pytester, run: Run) -> None:
    """Five faults, in order, each verified before the next was issued, and a repeat as far apart as was asked."""
    box.makepyfile(DRILLS)
    run().assert_outcomes(passed=1)
    *_, file = sorted((box.path / ".gameday/runs/latest").glob("*/report.json"))  # of two attempts the second stands
    faults: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["faults"]
    assert [fault["kind"] for fault in faults] == ["pause", "noop", "pause", "pause", "pause"]
    assert all(one["verified"] <= two["issued"] for one, two in pairwise(faults))
    assert faults[0]["heal_issued"] - faults[0]["landed"] >= 0.3
    assert all(two["issued"] - one["issued"] >= 0.6 for one, two in pairwise(faults[2:]))
