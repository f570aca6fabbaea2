"""Names of WAL segments: which come after which, and which are missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.backups import archive
from fixtures.backups.fingerprint import TableSum, difference

NUMBERS = st.integers(min_value=0, max_value=5 * 4096)


@given(NUMBERS, st.integers(min_value=1, max_value=9), st.sampled_from([1 << 20, 16 << 20, 1 << 30]))
def test_a_name_and_its_number_are_one(number: int, timeline: int, segment_bytes: int) -> None:
    """Whatever the segments' size, the number of a number's name is that number."""
    assert archive.number_of(archive.name_of(timeline, number, segment_bytes), segment_bytes) == number


@given(NUMBERS, st.integers(min_value=2, max_value=40), st.data())
def test_exactly_what_was_taken_away_is_missing(first: int, length: int, data: st.DataObject) -> None:
    """Of a chain without gaps, also over the end of a log file, what is taken out of it is reported, and nothing else."""
    chain = [archive.name_of(1, number, archive.MIB) for number in range(first, first + length)]
    gone = data.draw(st.sets(st.sampled_from(chain[:-1])))
    assert archive.missing(set(chain) - gone, first=chain[0]) == sorted(gone)


def test_the_end_of_the_chain_can_be_missing_too() -> None:
    """Where it is known how far the archive should reach, an end that is missing is a gap."""
    chain = [archive.name_of(1, number, archive.MIB) for number in range(3)]
    assert archive.missing(chain[:2], first=chain[0], last=chain[2]) == [chain[2]]
    assert archive.missing([], first=chain[0], last=chain[2]) == chain


def test_a_chain_goes_on_over_a_change_of_timeline() -> None:
    """A promoted server goes on with the next number on a timeline of its own."""
    names = ["00000001000000000000000A", "00000002.history", "00000002000000000000000B", "00000002000000000000000C"]
    assert archive.missing(names, first=names[0]) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"a": TableSum(2, "7"), "b": TableSum(0, "0")}, []),
        ({"b": TableSum(0, "0")}, ["a is missing"]),
        ({"a": TableSum(2, "8"), "b": TableSum(0, "0")}, ["a holds 2 rows, 8 instead of 2 rows, 7"]),
    ],
)
def test_fingerprints_tell_tables_apart(found: dict[str, TableSum], said: list[str]) -> None:
    """A table that is missing and one that holds something else are both told."""
    assert difference({"a": TableSum(2, "7"), "b": TableSum(0, "0")}, found) == said
