"""Imports run downwards only: the layers of the package, and what may be imported where."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import chaos

ROOT = Path(__file__).resolve().parent.parent
LAYERS = {
    "core": 0,
    "measure": 1,
    "environments": 2,
    "faults": 3,
    "probes": 3,
    "engine": 4,
    "evidence": 5,
    "toolkit": 6,
    "plugin": 7,
    "cli": 7,
    "guard_cli": 7,
    "heal_cli": 7,
}
CLIENTS = frozenset(
    {"apprise", "boto3", "botocore", "docker", "httpx", "kubernetes", "psycopg", "pyroute2", "redis", "sqlalchemy", "testcontainers"}
)
HEAVY = CLIENTS | {"jinja2", "matplotlib", "msgspec", "numpy", "rich", "click", "psutil", "tenacity", "tomllib"}
# Modules of the public API beside the names that `chaos` itself offers: contracts, vocabulary and the built-in environments.
PUBLIC = (
    "chaos.core",
    "chaos.environments",
    "chaos.engine.runbook",
    "chaos.engine.system",
    "chaos.faults",
    "chaos.measure.history",
    "chaos.measure.workload",
    "chaos.plugin.hookspecs",
    "chaos.plugin.options",
    "chaos.probes",
    "chaos.testing",
)


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every absolute module name that the file imports, lazily or not, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _sources(*parts: str) -> list[Path]:
    folder = ROOT.joinpath(*parts)
    return [folder] if folder.is_file() else sorted(folder.rglob("*.py"))


def _layer(module: str) -> int | None:
    parts = module.split(".")
    return LAYERS.get(parts[1]) if parts[0] == "chaos" and len(parts) > 1 else None


def _is_public(module: str) -> bool:
    names = {f"chaos.{name}" for name in chaos.__all__}
    return module in names or ("._" not in module and any(f"{module}.".startswith(f"{public}.") for public in PUBLIC))


def test_every_part_of_the_package_has_a_layer() -> None:
    """No directory or module directly below the package is without a layer."""
    found = {path.stem for path in (ROOT / "chaos").iterdir() if path.is_dir() or path.suffix == ".py"}
    assert found - {"__init__", "__pycache__", "py", "testing"} == set(LAYERS)


@pytest.mark.parametrize("part", sorted(LAYERS))
def test_imports_run_downwards_only(part: str) -> None:
    """A module imports from its own layer and from lower ones."""
    name = f"{part}.py" if part.endswith("cli") else part
    upwards = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in _sources("chaos", name)
        for line, module in _imports(path)
        if (layer := _layer(module)) is not None and layer > LAYERS[part]
    ]
    assert upwards == []


@pytest.mark.parametrize("part", ["core", "measure"])
def test_the_lowest_layers_know_neither_pytest_nor_any_client(part: str) -> None:
    """Vocabulary and arithmetic import neither pytest nor a provider's or a server's client library."""
    foreign = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in _sources("chaos", part)
        for line, module in _imports(path)
        if module.split(".")[0] in CLIENTS | {"pytest", "_pytest"}
    ]
    assert foreign == []


def test_nothing_imports_the_private_parts_of_pytest() -> None:
    """No module of the package, no fixture and no drill imports ``_pytest`` or ``xdist`` internals."""
    private = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for folder in ("chaos", "fixtures", "suites", "conftest.py")
        for path in _sources(folder)
        for line, module in _imports(path)
        if module.split(".")[0] in ("_pytest", "xdist")
    ]
    assert private == []


@pytest.mark.parametrize("folder", ["fixtures", "suites"])
def test_fixtures_and_drills_use_only_the_public_api(folder: str) -> None:
    """Systems under drill and drills import public modules of the package and no private name of them."""
    private = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in _sources(folder)
        for line, module in _imports(path)
        if module.split(".")[0] == "chaos" and not _is_public(module)
    ]
    assert private == []


def test_the_package_does_not_import_what_does_not_ship_with_it() -> None:
    """Nothing in the wheel imports fixtures, suites or tests."""
    foreign = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in _sources("chaos")
        for line, module in _imports(path)
        if module.split(".")[0] in ("fixtures", "suites", "tests", "bench")
    ]
    assert foreign == []


def test_the_package_itself_does_not_go_through_its_public_face() -> None:
    """Inside the package every import names the module that defines a thing, so that layers can be checked."""
    roundabout = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in _sources("chaos")
        for line, module in _imports(path)
        if module in {f"chaos.{name}" for name in chaos.__all__ if name != "__version__"}
    ]
    assert roundabout == []


def test_loading_the_plugin_imports_nothing_heavy() -> None:
    """The module behind the pytest11 entry point brings no client, no renderer and no decoder with it."""
    code = "import sys, pytest; old = set(sys.modules); import chaos.plugin; print(*{n.split('.')[0] for n in set(sys.modules) - old})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    assert set(done.stdout.split()) & HEAVY == set()


@pytest.mark.parametrize("layer", ["core.model", "measure.history", "environments.base", "faults.base", "engine.system"])
def test_the_contracts_import_no_client(layer: str) -> None:
    """The modules that other packages build on can be imported without any provider's client."""
    code = f"import sys, chaos.{layer}; print(*sorted({{n.split('.')[0] for n in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    assert set(done.stdout.split()) & (CLIENTS | {"pytest"}) == set()
