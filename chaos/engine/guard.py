"""The guard: the last word before anything is broken. A marker selects, the guard authorises.

Disposable environments are ours to break. A standing one needs an identity that was checked, allow-lists, a lease and a net beyond the
fixture's own; until a provider brings those, every fault there is refused.
"""

from __future__ import annotations

from chaos.core.errors import BadInput
from chaos.core.model import Expectation, NodeRef, Verdict
from chaos.environments.base import Environment
from chaos.faults.base import Fault


class Guard:
    """Authorises drills and faults on one environment."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def permit_drill(self, expectation: Expectation) -> None:
        """Raises BadInput where a drill that is expected to fail would run on a standing environment."""
        if not self._environment.disposable and expectation.verdict is not Verdict.PASS:
            raise BadInput(
                f"a drill that expects {expectation.verdict} runs in disposable environments only",
                where=self._environment.name,
                next_step="give it environments=['embedded', 'docker']",
            )

    def permit(self, fault: Fault) -> None:
        """Raises BadInput where ``fault`` is not allowed here."""
        for target in fault.targets:
            if not isinstance(target, NodeRef):
                raise BadInput(
                    f"{fault.kind} aims at {target!r}, which is no node",
                    expected="a reference such as postgres.primary or postgres.replicas[0]",
                )
            if target.environment != self._environment.name:
                raise BadInput(
                    f"{fault.kind} aims at a node of another environment",
                    where=str(target),
                    expected=f"a node of {self._environment.name}",
                )
        if not self._environment.disposable and set(fault.nets) <= {"fixture"}:
            raise BadInput(
                f"{fault.kind} is refused on a standing environment: only the test's own teardown would undo it",
                where=self._environment.name,
                expected="a fault with a healer or a dead-man's switch",
            )
