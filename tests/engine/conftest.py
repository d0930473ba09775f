from __future__ import annotations

import faulthandler
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.toys import ToyRun, begin, copy_run, write_dataset


@pytest.fixture(scope="session")
def toy_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("toy") / "toy.zarr")


@pytest.fixture(scope="session")
def _begun(tmp_path_factory: pytest.TempPathFactory, toy_dataset: Path) -> Callable[..., ToyRun]:
    made: dict[str, ToyRun] = {}

    def get(**options: Any) -> ToyRun:
        key = repr(sorted(options.items()))
        if key not in made:
            made[key] = begin(tmp_path_factory.mktemp("begun") / "run.zarr", toy_dataset, **options)
        return made[key]

    return get


@pytest.fixture
def new_run(tmp_path: Path, _begun: Callable[..., ToyRun]) -> Callable[..., ToyRun]:
    """Return a function that makes runs which were begun and did nothing yet."""
    made: list[ToyRun] = []

    def make(**options: Any) -> ToyRun:
        made.append(copy_run(_begun(**options), tmp_path / f"run{len(made)}.zarr"))
        return made[-1]

    return make


@pytest.fixture
def every_commit_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every commit is on disk before the next task, as on workers: there are many moments for faults."""
    monkeypatch.setattr("oocml.engine.journal.PUT_OFF_S", 0.0)


@pytest.fixture(autouse=True)
def _long_is_not_stuck(request: pytest.FixtureRequest) -> None:
    """Long tests have their own timeout; pytest need not print every stack after two minutes."""
    if request.node.get_closest_marker("long"):
        faulthandler.cancel_dump_traceback_later()
