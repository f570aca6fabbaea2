"""Polarity of names in marker expressions."""

from __future__ import annotations

import pytest

from chaos.plugin.expression import names_in


@pytest.mark.parametrize(
    ("expression", "positive", "every"),
    [
        ("", set(), set()),
        ("staging", {"staging"}, {"staging"}),
        ("not staging", set(), {"staging"}),
        ("not not staging", {"staging"}, {"staging"}),
        ("drill and not (embedded or staging)", {"drill"}, {"drill", "embedded", "staging"}),
        ("not (not staging or embedded)", {"staging"}, {"staging", "embedded"}),
        ("a and b or not c", {"a", "b"}, {"a", "b", "c"}),
        ("postgres(replication='sync') and docker", {"postgres", "docker"}, {"postgres", "docker"}),
        ("staging or not staging", {"staging"}, {"staging"}),
        ("staging and", set(), set()),
        ("(staging", set(), set()),
        ("staging)", set(), set()),
        ("'staging'", set(), set()),
        ("staging!", set(), set()),
    ],
)
def test_polarity(expression: str, positive: set[str], every: set[str]) -> None:
    """A name is positive under an even number of ``not``; an expression that does not parse names nothing."""
    names = names_in(expression)
    assert (names.positive, names.all) == (positive, every)
