"""LETOR sets as folds of datasets: five parts that rotate, or training, validation and test files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from oocml import api
from oocml.data.dataset import Dataset
from oocml.errors import UsageError
from oocml.types import Float64Array, Int64Array

from .datasets import once

N_PARTS = 5
SPLITS = ("train", "valid", "test")
FILES = ("train.txt", "vali.txt", "test.txt")


class Fold(NamedTuple):
    """Datasets to train on, to choose by and to test on."""

    number: int
    train: Path
    valid: Path
    test: Path


class Graded(NamedTuple):
    """A dataset in memory, for other libraries."""

    X: Float64Array
    """Shape (n_rows, n_features)."""
    grade: Float64Array
    start: Int64Array
    """Shape (n_queries + 1,): first row of each query."""
    qid: Int64Array
    """Shape (n_queries,)."""


def folds(name: str, folder: Path, data_dir: Path | None) -> list[Fold]:
    """The folds of a LETOR set, ingested once under ``folder``.

    Fold k of a set in five parts is trained on parts k, k + 1 and k + 2, validated on k + 3 and tested on k + 4.

    Raises
    ------
    UsageError
        ``data_dir/NAME`` has neither the parts nor the files.
    """
    given = None if data_dir is None else data_dir / name
    parts = [] if given is None else [_found(given, f"S{n}.txt") for n in range(1, N_PARTS + 1)]
    if parts and all(parts):
        rotated = [[parts[(k + i) % N_PARTS] for i in range(N_PARTS)] for k in range(N_PARTS)]
        sources = [(order[:3], order[3:4], order[4:]) for order in rotated]
    else:
        files = [] if given is None else [_found(given, file) for file in FILES]
        if not files or not all(files):
            raise UsageError(
                f"{name} has to be got by hand: give --data-dir with {name}/S1.txt ... S5.txt, or {name}/train.txt, "
                "vali.txt and test.txt"
            )
        sources = [tuple([file] for file in files)]  # type: ignore[list-item]
    return [_ingested(name, folder, k, source) for k, source in enumerate(sources, 1)]


def _found(folder: Path, name: str) -> Path | None:
    return next(iter(sorted(folder.glob(f"{name}*"))), None)


def _ingested(name: str, folder: Path, number: int, sources: Sequence[Sequence[Path | None]]) -> Fold:
    paths = [folder / f"{name}-{number}-{split}.zarr" for split in SPLITS]
    for path, files in zip(paths, sources, strict=True):
        like = {} if path == paths[0] else {"like": str(paths[0])}
        texts = [str(file) for file in files]
        once(path, lambda p=path, t=texts, k=like: api.ingest("letor", t, str(p), overwrite=True, **k))  # type: ignore[misc]
    return Fold(number, *paths)


def in_memory(path: Path) -> Graded:
    """A dataset as dense arrays, queries one after another."""
    dataset = Dataset.open(path)
    panels = [dataset.read_panel(p) for p in range(dataset.n_panels)]
    X = np.zeros((dataset.n_rows, dataset.n_cols))
    for lo, panel in zip(dataset.panel_bounds.tolist(), panels, strict=False):
        rows = lo + np.repeat(np.arange(len(panel.row_ids)), np.diff(panel.X.indptr))
        X[rows, panel.X.indices] = panel.X.data
    grade = np.concatenate([np.asarray(panel.y, np.float64) for panel in panels])
    qid = np.concatenate([np.asarray(panel.qid) for panel in panels])
    first = np.flatnonzero(np.concatenate([[True], qid[1:] != qid[:-1]]))
    return Graded(X, grade, np.append(first, len(qid)), qid[first])
