"""Imports go one way; ``docs/design.md``, section 12, lists the layers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "oocml"

LAYERS = [
    {"errors", "types"},
    {"config", "kernels", "metrics", "store", "data"},
    {"models"},
    {"schedule"},
    {"engine"},
    {"watch"},
    {"api", "first_use", "run", "training"},
    {"estimators", "cli"},
    {"pipelines"},
]
"""From the bottom up. A module imports from its own layer and those below it."""

LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(source: str, package: str) -> list[str]:
    """Absolute names of everything that a module of ``package`` imports, inside functions too.

    Imports for types only don't count: they are never run.
    """
    tree = ast.parse(source)
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for statement in block.body
        for node in ast.walk(statement)
    }
    names = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            above = parents[: len(parents) - node.level + 1] if node.level else []
            origin = ".".join([*above, node.module] if node.module else above)
            names += [f"{origin}.{alias.name}" for alias in node.names]
    return names


def imports_of(path: Path) -> list[str]:
    name = module_name(path)
    return imported_modules(path.read_text(), name if path.name == "__init__.py" else name.rpartition(".")[0])


def part_of(module: str) -> str | None:
    """The top-level part a module belongs to; None for what isn't ours, and for the package itself."""
    names = module.split(".")
    if names[0] == "pipelines":
        return "pipelines"
    if names[0] != "oocml" or len(names) == 1:
        return None
    return names[1] if names[1] in LEVEL or (PACKAGE / names[1]).exists() else None


SOURCES = sorted(PACKAGE.rglob("*.py")) + sorted((ROOT / "pipelines").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_go_one_way(path):
    part = part_of(module_name(path))
    if part is None:
        return  # the package's face may name anything
    assert part in LEVEL, f"give {part} a layer in tests/test_imports.py and docs/design.md"
    for module in imports_of(path):
        target = part_of(module)
        if target is not None:
            assert LEVEL[target] <= LEVEL[part], f"{module_name(path)} ({part}) imports {module}"


@pytest.mark.parametrize("path", [path for path in SOURCES if "engine" in path.parts], ids=module_name)
def test_engine_names_no_model(path):
    general = ("oocml.models.protocol.", "oocml.models.registry.", "oocml.models.top_columns.")
    models = [name for name in imports_of(path) if name.startswith("oocml.models.")]
    assert all(name.startswith(general) for name in models), models


@pytest.mark.parametrize("path", [path for path in SOURCES if "schedule" in path.parts], ids=module_name)
def test_schedules_do_no_io(path):
    forbidden = {
        "zarr",
        "dask",
        "distributed",
        "time",
        "os",
        "pathlib",
        "oocml.store.chunks",
        "oocml.store.ledger",
        "oocml.data",
    }
    used = {name for name in imports_of(path) for bad in forbidden if f"{name}.".startswith(f"{bad}.")}
    assert not used, "schedules are pure; import under TYPE_CHECKING what only types need"


def test_imports_are_found_wherever_they_stand():
    source = (
        "import oocml.api\n"
        "from . import config\n"
        "from .engine.task import run\n"
        "if TYPE_CHECKING:\n    from oocml.watch import report\n"
        "def f():\n    from oocml.cli import main\n"
    )
    assert [part_of(name) for name in imported_modules(source, "oocml")] == ["api", "config", "engine", "cli"]


def test_help_needs_no_heavy_import():
    heavy = ["numpy", "zarr", "dask", "distributed", "numba", "bokeh", "scipy"]
    code = (
        "import sys\nfrom oocml.cli import app\n"
        "from click.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_api_is_listed_before_it_is_imported():
    code = (
        "import sys, oocml\n"
        "missing = {'train', 'resume', 'ingest', 'plan', 'open_dataset', 'open_run', 'Run'}.difference(dir(oocml))\n"
        "print(sorted(missing), 'zarr' in sys.modules)\n"
        "assert all(hasattr(oocml, name) for name in dir(oocml))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"
