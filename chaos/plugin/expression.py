"""Which names a ``-m`` expression asks for, and whether it asks *for* them or against them.

Only names and polarity: pytest itself evaluates the expression and reports its syntax errors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(r"\s*(?:(?P<name>[\w:+\-.\[\]\\/]+)|(?P<mark>[()=,])|(?P<text>'[^']*'|\"[^\"]*\"))")


@dataclass
class Names:
    """``positive``: names under an even number of ``not``; ``all``: every name."""

    positive: set[str] = field(default_factory=set)
    all: set[str] = field(default_factory=set)


def names_in(expression: str) -> Names:
    """The names of ``expression``; empty where it is empty or does not parse."""
    found = Names()
    tokens = _tokens(expression)
    if tokens is None or not _disjunction(tokens, found, positive=True) or tokens:
        return Names()
    return found


def _tokens(expression: str) -> list[str] | None:
    tokens, position, end = [], 0, len(expression.rstrip())
    while position < end:
        match = _TOKEN.match(expression, position)
        if match is None:
            return None
        tokens.append(match.group(match.lastgroup or 0))
        position = match.end()
    return tokens


def _disjunction(tokens: list[str], found: Names, *, positive: bool) -> bool:
    """``and`` and ``or`` do not change polarity, so one level serves both."""
    while True:
        if not _operand(tokens, found, positive=positive):
            return False
        if not tokens or tokens[0] not in ("and", "or"):
            return True
        tokens.pop(0)


def _operand(tokens: list[str], found: Names, *, positive: bool) -> bool:
    if not tokens:
        return False
    token = tokens.pop(0)
    if token == "not":
        return _operand(tokens, found, positive=not positive)
    if token == "(":
        return _disjunction(tokens, found, positive=positive) and bool(tokens) and tokens.pop(0) == ")"
    if token in ("and", "or", ")", "=", ",") or token[0] in "'\"":
        return False
    found.all.add(token)
    if positive:
        found.positive.add(token)
    if tokens and tokens[0] == "(":
        while tokens and tokens.pop(0) != ")":
            continue
    return True
