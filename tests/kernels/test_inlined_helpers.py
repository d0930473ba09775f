"""A kernel computes the same bits whether this process compiled it or loaded it from numba's cache."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import oocml.kernels

FOLDER = Path(oocml.kernels.__file__).parent
WITHOUT_FLOATS = {"csv_table", "decimal", "delimited", "documents", "interactions", "svmlight", "tiles"}
"""Modules whose helpers round nothing: they read text or count."""
VISIT = """
import hashlib
import numpy as np
from oocml.kernels.robirank_implicit import Draws, Items, Step, Users, robirank_exp_visit
from oocml.types import Csr

rng, (n, m, factors) = np.random.default_rng(0), (200, 30, 8)
items = np.concatenate([np.sort(rng.choice(m, 3, replace=False)) for _ in range(n)]).astype(np.int32)
tile = Csr(np.arange(0, 3 * n + 1, 3), items, np.ones(3 * n, np.float32))
U, V = (rng.normal(size=(size, factors)).astype(np.float32) for size in (n, m))
users = Users(U, np.full(n, 0.01, np.float32), np.zeros((n, 3)))
items = Items(V, np.zeros(m, np.float32), np.full((m, 2), 0.01, np.float32))
own = np.full((n, 2), [-1, 0], np.float32)
draws = Draws(np.zeros(m, np.float32), np.zeros(m, np.int32))
step = Step(np.float32(0.2), np.float32(0.3), 16, np.float32(120), False)
robirank_exp_visit(tile, np.arange(n, dtype=np.int32), 1, users, items, own, draws, step)
print(sum(robirank_exp_visit.stats.cache_misses.values()), hashlib.sha256(U.tobytes() + V.tobytes()).hexdigest())
"""


def compiled_functions(tree):
    """Functions compiled by numba, each with its decorator."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            decorator = ast.unparse(node.decorator_list[0])
            if "jit" in decorator or "inlined" in decorator:
                yield node, decorator


def imported_from(tree):
    """The module that each imported name is of."""
    return {
        alias.name: node.module.rpartition(".")[2]
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def test_helpers_of_kernels_are_inlined():
    decorators, called = {}, set()
    for path in sorted(FOLDER.glob("*.py")):
        tree = ast.parse(path.read_text())
        imported = imported_from(tree)
        for function, decorator in compiled_functions(tree):
            decorators[path.stem, function.name] = decorator
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    called.add((imported.get(node.func.id, path.stem), node.func.id))
    helpers = {key for key in called & decorators.keys() if key[0] not in WITHOUT_FLOATS}
    assert len(helpers) > 50
    assert [key for key in sorted(helpers) if "inline" not in decorators[key]] == []


def test_bits_of_a_kernel_that_is_loaded_are_those_of_the_compiled_one(tmp_path):
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", VISIT]
    found = [subprocess.run(command, env=env, capture_output=True, text=True, check=True) for _ in range(2)]
    (compiled, bits), (loaded, same) = (one.stdout.split() for one in found)
    assert (compiled, loaded) == ("1", "0")
    assert same == bits
