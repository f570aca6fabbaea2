"""The page of faults says what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.faults.describe import FAMILIES, page
from chaos.faults.registry import registered

PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"


def test_the_page_is_what_the_code_gives() -> None:
    """docs/faults.md is what `make docs` writes now."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_fault_has_a_family() -> None:
    """No fault of this package is filed under "other" but the control experiment."""
    filed = {name for names in FAMILIES.values() for name in names}
    assert set(registered()) - filed == {"noop"} and filed <= set(registered())


@pytest.mark.parametrize("name", sorted(registered()))
def test_every_fault_says_what_a_reader_needs(name: str) -> None:
    """What it needs and which nets hold stand in its docstring, and the nets are those that it declares."""
    kind = registered()[name]
    said = " ".join((kind.__doc__ or "").split())
    assert "Needs" in said and "Nets: " in said
    told = said.partition("Nets: ")[2].partition(".")[0]
    for net in ("fixture", "healer", "dead-man"):
        assert (net in told) is (net in kind.nets), (net, told)
