"""The shipped suite on its own: in a project that has nothing but a catalogue, it convicts faults that break the contract, each by the test
that is meant for it, and passes one that keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract_bad_faults import CONVICTED_BY, Silence

from chaos.core.errors import Unavailable
from chaos.environments.microhost.provider import Microhosts
from chaos.testing import FaultContract
from chaos.testing.grounds import not_here

SUITE = '''
from chaos.testing import FaultContract

class TestFaults(FaultContract):
    """All of them."""
    catalogue = "faults.py"
'''
OWN = '''
import pytest
from faults import EXAMPLES, PLACES
from chaos.testing import FaultContract

class TestMine(FaultContract):
    """With fixtures of one's own, and no catalogue."""

    @pytest.fixture
    def place(self, tmp_path):
        with PLACES["embedded"](tmp_path) as place:
            yield place

    @pytest.fixture
    def fault(self, place):
        return EXAMPLES["silence"][""](*place.refs)
'''


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project elsewhere, with the bad faults as its catalogue."""
    try:
        Microhosts().check()
    except Unavailable as err:
        not_here(err, "embedded")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini("[pytest]\nfilterwarnings = error\npythonpath = .\n")
    pytester.path.joinpath("faults.py").write_text(Path(__file__).with_name("contract_bad_faults.py").read_text(encoding="utf-8"))
    return pytester


def test_each_bad_fault_is_convicted_by_the_test_that_is_meant_for_it(project: pytest.Pytester) -> None:
    """Ten faults, each broken in one way, fail that test; the one that keeps the contract fails none, and the output says what was seen."""
    file = project.makepyfile(SUITE).name
    tests = [name for name in dir(FaultContract) if name.startswith("test_")]
    convicting = {f"{test}[embedded-{kind.kind}]" for kind, test in CONVICTED_BY.items()}
    wanted = [f"{test}[embedded-{Silence.kind}]" for test in tests] + sorted(convicting)
    ids = [f"{file}::TestFaults::{name}" for name in wanted]
    result = project.runpytest_subprocess("-q", "--tb=short", "-rf", "-p", "no:cacheprovider", *ids, timeout=500)
    failed = {line.split(" ")[1].rpartition("::")[2] for line in result.outlines if line.startswith("FAILED ")}
    assert failed == convicting
    assert any("healed while it is in place" in line for line in result.outlines), "assertions of the suite are not rewritten"


def test_a_class_may_bring_its_own_fixtures(project: pytest.Pytester) -> None:
    """Where there is no catalogue, fixtures `place` and `fault` are all that the suite needs."""
    project.makepyfile(OWN)
    result = project.runpytest_subprocess("-q", "-p", "no:cacheprovider", timeout=300)
    result.assert_outcomes(passed=10, skipped=1)
