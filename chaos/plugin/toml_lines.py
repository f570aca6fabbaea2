"""On which line does each key of a TOML text stand? ``tomllib`` does not say.

A scanner of *valid* TOML: it checks nothing and keeps no values."""

from __future__ import annotations

import re

Path = tuple["str | int", ...]

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}\r\n#]+")
_STRINGS = (
    re.compile(r'"""(?:\\.|[^\\])*?"{3,5}', re.S),
    re.compile(r"'''.*?'{3,5}", re.S),
    re.compile(r'"(?:\\.|[^"\\])*"'),
    re.compile(r"'[^']*'"),
)


def lines_of(text: str) -> dict[Path, int]:
    """Key path -> line number (from 1) where it is first written: ``("environments", "staging", "stop_when", 0, "http")``."""
    return _Scanner(text).document()


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of ``path``, or of the nearest table around it that is written down; 1 where none is."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


class _Scanner:
    """One pass over the text; ``_at`` is where it stands."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._lines: dict[Path, int] = {}
        self._tables: dict[Path, int] = {}

    def document(self) -> dict[Path, int]:
        table: Path = ()
        while self._skip(_SPACE):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _skip(self, what: re.Pattern[str]) -> bool:
        """Past ``what``; is there anything left?"""
        found = what.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._at < len(self._text)

    def _header(self) -> Path:
        """``[a.b]`` or ``[[a.b]]``; the latter is one more element of its array."""
        array = self._text.startswith("[[", self._at)
        begin = self._at
        self._at += 2 if array else 1
        path = self._inside_arrays(self._key())
        self._at = self._text.index("]", self._at) + (2 if array else 1)
        if array:
            self._note(path, begin)
            self._tables[path] = self._tables.get(path, -1) + 1
            path = (*path, self._tables[path])
        for length in range(1, len(path) + 1):
            self._note(path[:length], begin)
        return path

    def _inside_arrays(self, key: Path) -> Path:
        """``a.b`` seen from the newest element of every array of tables on the way."""
        path: Path = ()
        for number, part in enumerate(key, start=1):
            path = (*path, part)
            if path in self._tables and number < len(key):
                path = (*path, self._tables[path])
        return path

    def _pair(self, table: Path) -> None:
        begin = self._at
        key = self._key()
        for length in range(1, len(key) + 1):
            self._note((*table, *key[:length]), begin)
        self._at = self._text.index("=", self._at) + 1
        self._value((*table, *key))

    def _key(self) -> Path:
        """A dotted key; leaves off behind it."""
        parts: list[str | int] = []
        while True:
            self._skip(_BLANK)
            if self._text[self._at] in "\"'":
                begin = self._at
                self._string()
                parts.append(self._text[begin + 1 : self._at - 1])
            else:
                begin = self._at
                self._skip(_BARE)
                parts.append(self._text[begin : self._at])
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return tuple(parts)
            self._at += 1

    def _value(self, path: Path) -> None:
        self._skip(_SPACE)
        first = self._text[self._at]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline(path)
        elif first in "\"'":
            self._string()
        else:
            self._skip(_SCALAR)

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while self._skip(_SPACE) and self._text[self._at] != "]":
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._note((*path, index), self._at)
            self._value((*path, index))
            index += 1
        self._at += 1

    def _inline(self, path: Path) -> None:
        self._at += 1
        while self._skip(_SPACE) and self._text[self._at] != "}":
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._pair(path)
        self._at += 1

    def _string(self) -> None:
        for form in _STRINGS:
            if found := form.match(self._text, self._at):
                self._at = found.end()
                return

    def _note(self, path: Path, at: int) -> None:
        self._lines.setdefault(path, self._text.count("\n", 0, at) + 1)
