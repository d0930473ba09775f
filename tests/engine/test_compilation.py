"""Kernels are compiled once, by a process that ends with what that takes."""

import contextlib
import json
import os
import subprocess
import sys
import threading

import pytest

from oocml.data.synth import synth
from oocml.engine import compilation
from oocml.engine.compilation import (
    APART,
    COMPILING,
    COMPILING_HERE,
    compile_kernels,
    compiled_apart,
    compiling_here,
)
from oocml.errors import InputError
from oocml.models.mlr import MLR

SETTINGS = MLR().defaults()


@pytest.fixture
def apart(tmp_path, monkeypatch):
    """Rehearsals that were asked for; they succeed unless told otherwise."""

    class Apart(list):
        succeeds = True

        def __call__(self, reference, settings):
            self.append((reference, dict(settings)))
            return self.succeeds

    fake = Apart()
    monkeypatch.setattr(compilation, "compiled_apart", fake)
    monkeypatch.setattr(compilation, "compiled_folder", lambda: tmp_path / "cache")
    return fake


def said(reference="mlr", **settings):
    lines = []
    compile_kernels(reference, SETTINGS | settings, lines.append)
    return lines


def test_it_is_said_and_done_once(apart):
    assert said() == [COMPILING]
    assert said() == []
    assert apart == [("mlr", SETTINGS)]


def test_numbers_other_than_zero_use_the_same_kernels(apart):
    said()
    assert said(l2=0.5, history=7) == []
    assert said(polish=2) == [COMPILING]
    assert said(polish=9) == []
    assert said(solver="lbfgs") == [COMPILING]
    assert said("mf") == [COMPILING]


def test_changed_sources_are_compiled_again(apart, monkeypatch):
    said()
    monkeypatch.setattr(compilation, "COMPILERS", ("numba",))
    assert said() == [COMPILING]
    assert said() == []


def test_what_failed_is_tried_again(apart):
    apart.succeeds = False
    assert said() == said() == [COMPILING]


def test_without_a_cache_that_lasts_nothing_is_done_apart(apart, monkeypatch):
    monkeypatch.setattr(compilation, "compiled_folder", lambda: None)
    assert said() == apart == []


def test_a_folder_that_takes_no_file_is_no_reason_to_fail(apart, tmp_path):
    (tmp_path / "cache").write_text("not a folder")
    assert said() == said() == [COMPILING]


def test_models_of_ones_own_are_left_alone(apart):
    assert said("model.py:Mine") == said("package.module:Mine") == apart == []


def test_the_process_that_compiles_starts_no_other(apart, monkeypatch):
    monkeypatch.setenv(APART, "1")
    assert said() == apart == []


def test_a_rehearsal_that_fails_is_told():
    assert not compiled_apart("no such model", {})


def used(*, slow=True, fails=False):
    """What is said of a use that lasts until it is said, or that ends at once."""
    lines, said_so = [], threading.Event()

    def say(line):
        lines.append(line)
        said_so.set()

    with contextlib.suppress(InputError), compiling_here(["ingest", "libsvm"], say, 0 if slow else 60):
        assert not slow or said_so.wait(30)
        if fails:
            raise InputError("bad")
    return lines


def test_a_slow_first_use_is_said_once(apart, monkeypatch):
    assert used() == [COMPILING_HERE]
    monkeypatch.setattr(threading, "Timer", None)  # whoever would say it again fails
    assert used(slow=False) == []


def test_what_ends_at_once_says_nothing_and_what_fails_is_no_first_use(apart):
    assert used(slow=False, fails=True) == []
    assert used(fails=True) == used() == [COMPILING_HERE]


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "options"),
    [("mlr", ["--set", "polish=1"]), ("mf", []), ("mf", ["--schedule", "serial", "--valid", "data.zarr"])],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_the_first_training_of_an_installation_stays_within_its_plan(tmp_path, model, options):
    synth("lshtc1_large", tmp_path / "data.zarr", rows=500, cols=300, classes=40, nnz_per_row=10)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "numba"), "NUMBA_DEBUG_CACHE": "1"}
    for first in (True, False):
        command = [sys.executable, "-m", "oocml.cli", "train", model, "data.zarr", "run.zarr", "--json"]
        command += ["--epochs", "1", "--memory", "1GiB", "--overwrite", *options]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        summary = json.loads(done.stdout)
        assert done.stderr.count(COMPILING) == first
        assert summary["peak_memory_bytes"] <= summary["planned_memory_bytes"]
        assert "data saved" not in done.stderr, "numba compiled something in the process that trains"
