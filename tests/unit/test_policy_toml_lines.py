"""Where a key of a TOML text stands."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.plugin.toml_lines import Path, line_of, lines_of

FILE = '''# a comment = [with, brackets]
title = "a # no comment"
"quoted key" = 1

[environments.staging]   # the table
kind = "docker-attach"
identity = { engine = "x", project = 'y' }
words = [ "a, ]",
  """b]
"""]
text = """
not = "a key"
[nor.a.table]
"""
freeze = [
  { cron = "0 9 * * 1-5", duration = "8h" },
  # a comment, with ] and }
  { cron = "0 0 1 * *", duration = "1d" },
]
caps.per_role."data base" = 1

[[more.things]]
a = 1
[[more.things]]
a = 2
[more.things.inner]
b = 3
'''
EXPECTED: dict[Path, int] = {
    ("title",): 2,
    ("environments", "staging"): 5,
    ("environments", "staging", "kind"): 6,
    ("environments", "staging", "identity", "engine"): 7,
    ("environments", "staging", "identity", "project"): 7,
    ("environments", "staging", "words", 1): 9,
    ("environments", "staging", "text"): 11,
    ("environments", "staging", "freeze"): 15,
    ("environments", "staging", "freeze", 0, "duration"): 16,
    ("environments", "staging", "freeze", 1, "duration"): 18,
    ("environments", "staging", "caps", "per_role", "data base"): 20,
    ("more", "things", 0, "a"): 23,
    ("more", "things", 1, "a"): 25,
    ("more", "things", 1, "inner", "b"): 27,
}


@pytest.mark.parametrize("key", EXPECTED, ids=lambda key: ".".join(map(str, key)))
def test_every_key_has_its_line(key: Path) -> None:
    """Tables, dotted keys, inline tables, arrays over several lines and multi-line strings do not confuse the count."""
    assert lines_of(FILE)[key] == EXPECTED[key]


def test_nothing_but_keys_is_found() -> None:
    """The paths found are exactly those of the decoded file: nothing inside a string or a comment is taken for a key."""

    def paths(value: object, at: Path) -> set[Path]:
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return {at} | {path for name, one in inner for path in paths(one, (*at, name))}

    assert set(lines_of(FILE)) == paths(tomllib.loads(FILE), ()) - {()}


def test_a_missing_key_has_the_line_of_its_table() -> None:
    """What is not written down is reported where the nearest table around it begins."""
    lines = lines_of(FILE)
    assert line_of(lines, ("environments", "staging", "tier")) == 5
    assert line_of(lines, ("nowhere",)) == 1


@given(st.lists(st.tuples(st.text("abc", min_size=1, max_size=3), st.sampled_from(['"x"', "1", "[1, 2]", "{ y = 1 }", "'''\n'''"]))))
def test_lines_follow_the_text_whatever_stands_between(pairs: list[tuple[str, str]]) -> None:
    """A key written after any other values has the line on which it stands."""
    unique = dict(pairs)
    text = "".join(f"{name} = {value}\n" for name, value in unique.items())
    lines = lines_of(text)
    for name in unique:
        assert text.splitlines()[lines[(name,)] - 1].startswith(f"{name} = ")
