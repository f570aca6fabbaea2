"""What the tests of the web stack say to each other. No fixtures."""

from __future__ import annotations

from collections.abc import Callable

from fixtures.webstack.embedded import EmbeddedWebStack

MakeStack = Callable[..., EmbeddedWebStack]
