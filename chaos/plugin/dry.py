"""``--drill-dry-run``: a drill item that ends as a skip, or as a failure where the guard would refuse. The plan is shown as a table at the
end of the run. Nothing in the item's environment is changed, and no evidence is written: there is none.
"""

from __future__ import annotations

import shutil

import msgspec
import pytest

from chaos.core.errors import GamedayError, Unavailable
from chaos.engine.dry import DryDrill
from chaos.engine.plan_table import PlanRow, from_plain, plain_plan, to_plain
from chaos.environments.base import Environment
from chaos.plugin.keys import DRILL, PLAN, SKIPPED, SPEC
from chaos.plugin.session import GamedaySession


def begin(item: pytest.Item, environment: Environment, session: GamedaySession) -> DryDrill:
    """The drill object of ``item``, which only plans."""
    from chaos.plugin.running import derived_seed

    options = session.options
    guard = session.guard(environment, item.nodeid)
    expectation = item.stash[SPEC].expectation
    drill = DryDrill(
        node_id=item.nodeid,
        run_id=options.run_id,
        seed=derived_seed(options.seed, item.nodeid),  # so that chance chooses the nodes that it would choose
        environment=environment,
        guard=guard,
        expectation=expectation,
    )
    item.stash[DRILL] = drill
    return drill


def finish(item: pytest.Item, drill: DryDrill, error: BaseException | None) -> None:
    """Keep the plan for the table, then skip, or fail where something would be refused. An interruption goes on."""
    if isinstance(error, KeyboardInterrupt | SystemExit | pytest.exit.Exception):
        raise error
    rows = list(drill.rows)
    refused = [row for row in rows if not row.permitted]
    if error is not None:
        text = f"the plan ends here: {_said(error)}"
        rows.append(PlanRow(item.nodeid, drill.environment.name, fault="…", decision=text))
    item.stash[PLAN] = to_plain([msgspec.structs.replace(row, decision=" ".join(row.decision.split())) for row in rows])
    if refused:
        pytest.fail("\n".join(["dry run: this drill would not run", *(row.decision for row in refused)]), pytrace=False)
    reason = f"dry run: {sum(1 for row in rows if row.permitted)} fault(s) planned, nothing was changed"
    item.stash[SKIPPED] = reason
    pytest.skip(reason)


def _said(error: BaseException) -> str:
    if isinstance(error, Unavailable | GamedayError | pytest.skip.Exception):
        return str(error)
    return f"the test expects more than a plan ({type(error).__name__}: {str(error).partition(chr(10))[0]})"


def show_plan(terminal: pytest.TerminalReporter, plans: list[dict[str, str]]) -> None:
    """The table of all drills."""
    columns = max(100, min(shutil.get_terminal_size().columns, 180))
    terminal.write_sep("=", "plan")
    terminal.write(plain_plan(from_plain(plans), columns=columns, colour=terminal.hasmarkup))
