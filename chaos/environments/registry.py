"""Providers of environments by kind: the entry points of the group ``chaos.environments``. Makes an environment from data alone, as a
process must that did not open it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import cast

from chaos.core.errors import BadInput, Unavailable
from chaos.core.model import Json
from chaos.environments.base import Environment

GROUP = "chaos.environments"


def reopen(kind: str, settings: Mapping[str, Json]) -> Environment:
    """An environment that reaches what another process' one of the same ``settings`` reaches. Nothing is asked of it yet.

    Raises:
        BadInput: no provider of that kind is installed, or it does not take these settings.
        Unavailable: its client library is missing.
    """
    for point in entry_points(group=GROUP, name=kind):
        try:
            return cast("Environment", point.load()(**settings))
        except ImportError as err:
            fix = f"pip install 'pytest-gameday[{kind.partition('-')[0]}]'"
            raise Unavailable(f"the provider of {kind!r} cannot be loaded: {err}", next_step=fix) from err
        except TypeError as err:
            raise BadInput(f"the provider of {kind!r} does not take these settings", observed=str(err)) from err
    raise BadInput(f"no provider for environments of kind {kind!r} is installed", next_step="install the package that brings it")
