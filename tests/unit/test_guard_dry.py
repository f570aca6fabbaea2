"""A dry run's drill answers to everything that a drill answers to, and plans what chance would choose."""

from __future__ import annotations

import pytest

from chaos.core.model import NodeRef, Step, Undo
from chaos.engine.drill import Drill
from chaos.engine.dry import DryDrill, PlannedFault, PlannedWorkload
from chaos.engine.plan_table import PlanRow, from_plain, plain_plan, to_plain, undo_words

HARMLESS = {"choose"}
"""What only looks, and may be the drill's own."""


@pytest.mark.parametrize(("dry", "real"), [(DryDrill, Drill)] + [(one, one.__bases__[0]) for one in (PlannedFault, PlannedWorkload)])
def test_nothing_with_an_effect_is_inherited(dry: type, real: type) -> None:
    """Every public method and property of the real thing is answered by the planned one itself."""
    public = {name for name, value in vars(real).items() if not name.startswith("_") and (callable(value) or isinstance(value, property))}
    properties_of_data = {"name"}
    assert public - set(vars(dry)) - HARMLESS - properties_of_data - {"plan"} == set()


def test_a_plan_survives_the_way_to_the_controller_and_reads_as_a_table() -> None:
    """Rows are plain data, and the table shows drill, fault, nodes, nets, undo and decision of each."""
    undo = Undo("f", "pause", 1, (NodeRef("staging", "s", "db"),), {}, {}, (Step("db", "thaw"), Step("db", "shell", "kill -CONT 1\nmore")))
    assert undo_words(undo) == "thaw db; shell kill -CONT 1 on db"
    rows = [
        PlanRow("t.py::test_a[staging]", "staging", "pause", "db", "", "fixture, healer", undo_words(undo)),
        PlanRow("t.py::test_a[staging]", "staging", "kill", "db", decision="refused: not allowed"),
    ]
    assert from_plain(to_plain(rows)) == rows
    text = plain_plan(rows, columns=160)
    for word in ("dry run: nothing was changed", "test_a[staging]", "thaw db", "permitted", "refused: not allowed"):
        assert word in text
    assert text.count("test_a[staging]") == 1
