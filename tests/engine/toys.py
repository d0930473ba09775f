"""Small runs of the toy model: made in milliseconds, driven in this process, compared bit for bit."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from oocml.data.dataset import Dataset
from oocml.data.writer import DatasetWriter
from oocml.engine.context import forget_context, problem_of
from oocml.engine.driver import Driver
from oocml.engine.in_process import InProcess
from oocml.engine.outputs import RunArrays
from oocml.engine.start import begin_run, make_problem
from oocml.models.registry import load_model
from oocml.schedule.cost import PanelSizes
from oocml.schedule.layout import block_shape, stored_array
from oocml.schedule.panel_layout import Pins
from oocml.schedule.plan import Plan, make_plan
from oocml.schedule.residency import Residency
from oocml.store.ledger import Ledger
from oocml.store.run import RunStore
from oocml.types import Csr, Panel

TESTS = Path(__file__).resolve().parents[1]
TOY, OTHER = f"{TESTS / 'toy_model.py'}:Toy", f"{TESTS / 'other_model.py'}:Other"
TILES = f"{TESTS / 'tile_toy.py'}:TileToy"
MEMORY = 2 * 2**30


class ToyRun(NamedTuple):
    run: RunStore
    plan: Plan


def write_dataset(path: Path, panel_rows: tuple[int, ...] = (3, 2, 4, 1, 5), n_cols: int = 6) -> Path:
    """A dataset of a few rows, some of them empty."""
    rng = np.random.default_rng(0)
    writer = DatasetWriter(str(path), n_cols=n_cols, label_kind="number", overwrite=True)
    first = 0
    for p, n_rows in enumerate(panel_rows):
        counts = rng.integers(0, n_cols, n_rows)
        indices = [np.sort(rng.choice(n_cols, count, replace=False)) for count in counts]
        X = Csr(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            np.concatenate([*indices, []]).astype(np.int32),
            rng.random(counts.sum(), np.float32),
        )
        labels = rng.integers(0, 3, n_rows).astype(np.float64)
        writer.write_panel(p, Panel(X, labels, np.arange(first, first + n_rows)))
        first += n_rows
    writer.finish(n_panels=len(panel_rows), attrs={}, labels=np.arange(3.0))
    return path


def begin(
    path: Path,
    dataset_path: Path,
    *,
    epochs: int = 1,
    row_blocks: int = 3,
    col_blocks: int = 3,
    reference: str = TOY,
    settings: dict[str, Any] | None = None,
    caches: bool = True,
    segments: tuple[int, ...] | None = None,
) -> ToyRun:
    """A run that was begun and did nothing yet; ``segments``: bounds of those, if not every row block is one."""
    dataset, model = Dataset.open(dataset_path), load_model(reference)
    problem = make_problem(dataset, model, settings or {}, seed=7)
    pins = Pins(row_blocks, col_blocks)
    plan = make_plan(model, problem, PanelSizes.of(dataset), memory=MEMORY, workers=0, pins=pins)
    if segments is not None:
        plan = dataclasses.replace(plan, layout=dataclasses.replace(plan.layout, segment_bounds=segments))
    if not caches:
        plan = dataclasses.replace(
            plan,
            panel_cache_bytes=0,
            cached_data_bytes=0,
            block_cache_bytes=0,
            residency=Residency((), "col", 0),
        )
    run = begin_run(
        path,
        reference=reference,
        model=model,
        problem=problem,
        dataset=dataset,
        plan=plan,
        epochs=epochs,
        schedule="serial",
        overwrite=False,
    )
    return ToyRun(run, plan)


def copy_run(toy: ToyRun, path: Path) -> ToyRun:
    """The same run elsewhere."""
    shutil.copytree(toy.run.path, path)
    return ToyRun(RunStore(path), toy.plan)


def drive(
    toy: ToyRun, executor: Any = None, *, more_epochs: int = 0, forget: bool = True, **options: Any
) -> Driver:
    """Train to the end of the program, as a process would that was just started (or that goes on)."""
    if forget:
        forget_context()
    with toy.run.lock():
        driver = Driver(toy.run, toy.plan, executor or InProcess(), **options)
        if more_epochs:
            driver.journal.ledger.segments.append(more_epochs)
        driver.train()
    return driver


def state_bytes(run: RunStore, checkpoint: str | None = None) -> dict[str, bytes]:
    """Every state array of a run (exported ones of a checkpoint), each joined; checksums are compared."""
    arrays = RunArrays(run, checkpoint)
    if checkpoint is None:
        arrays.specs = {spec.name: spec for spec in arrays.model.state(problem_of(run))}
    return {
        name: b"".join(
            arrays.block(name, index).tobytes() for index in range(len(arrays.ledger.stamps[name]))
        )
        for name in arrays.specs
    }


def fingerprint(run: RunStore) -> dict[str, Any]:
    """All that must not depend on workers, faults or times."""
    ledger = run.read_ledger()
    return {
        "state": state_bytes(run),
        "kept": {name: (epoch, state_bytes(run, name)) for name, epoch in ledger.kept.items()},
        "objective": ledger.objective,
        "history": [
            {key: record.get(key) for key in ("epoch", "objective", "valid")} for record in ledger.history
        ],
        "segments": ledger.segments,
        "finished": ledger.finished,
        "results": _plain(ledger.results),
    }


def named_files(run: RunStore, ledger: Ledger | None = None) -> set[str]:
    """Chunk files that a ledger names."""
    arrays = RunArrays(run, None)
    specs = arrays.model.state(arrays.problem)
    ledger = ledger or run.read_ledger()
    names = set()
    for spec in specs:
        stored = stored_array(spec, arrays.layout, arrays.problem)
        for index, stamp in enumerate(ledger.stamps[spec.name].tolist()):
            if stamp:
                shape = block_shape(spec, arrays.layout, arrays.problem, index)
                names.update(stored.keys(index, stamp, shape))
    return names


def chunk_files(run: RunStore) -> set[str]:
    """Chunk files and leftovers that are there."""
    return {
        f"state/{path.parent.name}/{path.name}"
        for path in (run.path / "state").glob("*/*")
        if path.name != "zarr.json"
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
