"""From a dataset and settings to a run on disk: what `train` does before its first dispatch."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import LocalStore

from oocml.config import complete_settings, format_size
from oocml.data.dataset import Dataset
from oocml.data.feature_arrays import feature_facts, of_dataset
from oocml.data.identity import dataset_sha256
from oocml.data.specs import Spec
from oocml.engine.executors import Executor
from oocml.engine.in_process import InProcess
from oocml.engine.kept_columns import ColumnsMessage, keep_columns
from oocml.engine.kept_rows import keep_names, keep_rows
from oocml.errors import DoesNotFit, UsageError
from oocml.models.protocol import Model, Problem
from oocml.schedule.cost import PanelSizes
from oocml.schedule.layout import stored_array
from oocml.schedule.plan import Plan
from oocml.store.run import RunStore, create_run

PANEL_BYTES = 8 * 2**20
IN_CONFIG = ("n_rows", "n_features", "nnz", "label_kind", "n_used_features", "max_feature_nnz", "n_queries")
"""What the configuration has of the problem."""
LABEL_KINDS: Mapping[str, Literal["number", "sets"]] = {
    "classification": "number",
    "regression": "number",
    "ranking": "number",
    "multilabel": "sets",
}
"""Of the data of a task; of the others' rows have none."""
PACKAGES = ("oocml", "numpy", "numba", "zarr", "dask", "distributed")


def make_problem(dataset: Dataset, model: Model, settings: Mapping[str, Any], seed: int) -> Problem:
    """What the model may know of its training data; raises if it cannot train on it."""
    facts = feature_facts(dataset)
    feature_nnz, feature_sumsq = (
        (of_dataset(dataset, name) if model.tiles else getattr(dataset, name))
        for name in ("feature_nnz", "feature_sumsq")
    )
    problem = Problem(
        n_rows=dataset.n_rows,
        n_features=dataset.n_cols,
        nnz=dataset.nnz,
        feature_nnz=feature_nnz,
        feature_sumsq=feature_sumsq,
        labels=dataset.labels,
        label_kind=dataset.label_kind,  # type: ignore[arg-type]
        settings=complete_settings(settings, model.defaults(), model.name),
        seed=seed,
        n_used_features=facts.n_used,
        max_feature_nnz=facts.max_nnz,
        n_queries=dataset.n_queries,
    )
    model.check(problem)
    return problem


def problem_of_spec(
    spec: Spec, model: Model, settings: Mapping[str, Any], seed: int
) -> tuple[Problem, PanelSizes]:
    """The problem and the panels that a data set would be, by its spec's numbers alone."""
    n_rows, n_features, nnz = spec.rows, spec.cols, spec.expected_nnz
    if n_rows is None or n_features is None or nnz is None:
        raise UsageError(
            f"the spec {spec.name} does not say its rows, columns and non-zeros; plan needs all three"
        )
    bytes_per_row = 12 * nnz / n_rows + 24
    n_panels = max(1, math.ceil(n_rows * bytes_per_row / PANEL_BYTES))
    rows = np.diff(np.arange(n_panels + 1) * n_rows // n_panels)
    panels = PanelSizes(rows, np.ceil(rows * bytes_per_row).astype(np.int64))
    problem = Problem(
        n_rows=n_rows,
        n_features=n_features,
        nnz=nnz,
        feature_nnz=np.broadcast_to(np.int64(max(1, nnz // n_features)), n_features),
        feature_sumsq=np.broadcast_to(np.float64(1), n_features),
        labels=None if spec.classes is None else np.arange(spec.classes, dtype=np.float64),
        label_kind=LABEL_KINDS.get(spec.task, "none"),
        settings=complete_settings(settings, model.defaults(), model.name),
        seed=seed,
        n_used_features=n_features,
        max_feature_nnz=max(1, nnz // n_features),
        n_queries=int(spec.has_queries),
    )
    model.check(problem)
    return problem, panels


def begin_run(
    path: str | os.PathLike[str],
    *,
    reference: str,
    model: Model,
    problem: Problem,
    dataset: Dataset,
    plan: Plan,
    epochs: int,
    schedule: str,
    given: Sequence[str] = (),
    validation: Mapping[str, Any] | None = None,
    durable: bool = False,
    overwrite: bool,
    check: Callable[[RunStore], None] | None = None,
    executor: Executor | None = None,
) -> RunStore:
    """Create the run's store; refuses a disk that has no room for it.

    Parameters
    ----------
    given
        Names of the settings that the user gave.
    check
        See `create_run`.
    executor
        Who deals the columns of a model of tiles; None for this process.
    """
    _check_disk(Path(os.path.abspath(path)).parent, plan)
    model_file = Path(reference.rpartition(":")[0]) if ".py:" in reference else None
    config = {
        **_origin(reference, model_file, problem, dataset),
        "given_settings": list(given),
        "chosen_settings": _chosen(model, problem),
        "layout": plan.layout.to_dict(),
        "memory": plan.memory,
        "workers": plan.workers,
        "task_memory": plan.task_memory,
        "schedule": schedule,
        "epochs": epochs,
        "validation": validation,
        "durable": durable,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "machine": platform.machine(),
    }
    arrays = {spec.name: stored_array(spec, plan.layout, problem) for spec in model.state(problem)}
    return create_run(
        path,
        config=config,
        arrays=arrays,
        held=_held(problem, dataset, tiles=model.tiles),
        fill=partial(
            _keep,
            model=model,
            problem=problem,
            dataset=dataset,
            col_bounds=plan.layout.col_bounds,
            executor=executor or InProcess(),
        ),
        segments=[epochs],
        model_file=model_file,
        overwrite=overwrite,
        check=check,
    )


def _check_disk(folder: Path, plan: Plan) -> None:
    if folder.is_dir():
        free = shutil.disk_usage(folder).free
        if plan.disk_bytes > free:
            raise DoesNotFit(
                f"the run takes up to {format_size(plan.disk_bytes)} on disk but {folder} has {format_size(free)} "
                "free; put the run elsewhere, free space, or use fewer features (min-count, hashing)"
            )


def _origin(reference: str, model_file: Path | None, problem: Problem, dataset: Dataset) -> dict[str, Any]:
    """What a run records of the model it trains, and of what it is trained on."""
    return {
        "model": reference,
        "model_sha256": hashlib.sha256(model_file.read_bytes()).hexdigest() if model_file else None,
        "settings": dict(problem.settings),
        "seed": problem.seed,
        "dataset": os.path.abspath(dataset.path),
        "dataset_sha256": dataset_sha256(dataset),
        "problem": {name: getattr(problem, name) for name in IN_CONFIG},
    }


def _chosen(model: Model, problem: Problem) -> dict[str, Any]:
    """What the settings came to that were left to the model, where it tells."""
    choose = getattr(model, "chosen_settings", None)
    chosen = {} if choose is None else choose(problem)
    return {name: value for name, value in chosen.items() if problem.settings[name] is None}


def keeps_rows(model: Model, problem: Problem) -> bool:
    """Whether rows have exported state: they are then known by their numbers ever after."""
    return any(spec.kind == "row" and spec.export for spec in model.state(problem)) and model.tiles


def _keep(
    group: zarr.Group,
    model: Model,
    problem: Problem,
    dataset: Dataset,
    col_bounds: Sequence[int],
    executor: Executor,
) -> None:
    """What a run keeps of the dataset, so that it is enough by itself afterwards."""
    if model.tiles:
        assert isinstance(group.store, LocalStore)
        list(executor.map(keep_columns, [ColumnsMessage(str(group.store.root), dataset.path, col_bounds)]))
    if keeps_rows(model, problem):
        keep_rows(group, dataset)
    elif hasattr(model, "summary"):
        keep_names(group, dataset, "feature_names")


def _held(problem: Problem, dataset: Dataset, *, tiles: bool) -> dict[str, npt.NDArray[Any]]:
    held: dict[str, npt.NDArray[Any]] = {}
    if not tiles:
        held = {"feature_nnz": problem.feature_nnz, "feature_sumsq": problem.feature_sumsq}
    if problem.labels is not None:
        held["labels"] = problem.labels
    if dataset.label_names is not None:
        held["label_names"] = np.frombuffer("\n".join(dataset.label_names).encode(), np.uint8)
    return held


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a checkout that was never installed
        return "unknown"
