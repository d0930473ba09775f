"""What a run keeps of its training rows, so that models with rows of their own need the run alone afterwards.

Layout, in the run's Zarr group::

    rows/row_ids                       int64 (N): row number in the source of every stored row
    rows/panel_bounds, panel_nnz       first stored row and entries of every panel, as in the dataset
    rows/panels/<p>/indptr, indices    columns of the dataset that each row of a panel had, as in the dataset
    names/row_names, feature_names     as in the dataset, if it has them

A run whose model has a summary keeps ``names/feature_names`` even if it keeps no rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import zarr

from oocml.data.dataset import Dataset
from oocml.errors import InputError
from oocml.store.run import RunStore
from oocml.types import Csr, Int64Array

CHUNK_ROWS = 2**19
CHUNK_NAMES = 2**16
NAMES_COMPARED = 2**10


def keep_rows(group: zarr.Group, dataset: Dataset) -> None:
    """Copy row numbers, seen columns and names of a dataset into a run that is being made, a chunk at a time."""
    bounds = dataset.panel_bounds.tolist()
    row_ids = group.create_array(
        "rows/row_ids", shape=(dataset.n_rows,), chunks=(CHUNK_ROWS,), dtype="int64", compressors=None
    )
    for lo in range(0, dataset.n_rows, CHUNK_ROWS):
        rows = slice(lo, min(lo + CHUNK_ROWS, dataset.n_rows))
        row_ids[rows] = dataset.row_ids[rows]
    group.create_array("rows/panel_bounds", data=np.asarray(bounds, np.int64))
    group.create_array("rows/panel_nnz", data=dataset.panel_nnz)
    for p in range(dataset.n_panels):
        X = dataset.read_panel(p).X
        panel = group.create_group(f"rows/panels/{p}")
        for name, values in (("indptr", X.indptr), ("indices", X.indices)):
            panel.create_array(name, data=values, chunks=(max(1, len(values)),), compressors=None)
    for name in ("row_names", "feature_names"):
        keep_names(group, dataset, name)


def keep_names(group: zarr.Group, dataset: Dataset, name: str) -> None:
    """Copy ``row_names`` or ``feature_names`` of a dataset, if it has them, into a run that is being made."""
    texts = dataset.iter_names(name)
    if texts is None:
        return
    name = f"names/{name}"
    array = group.create_array(name, shape=(0,), dtype="string", chunks=(CHUNK_NAMES,), compressors=None)
    while some := list(itertools.islice(texts, CHUNK_NAMES)):
        array.append(np.array(some, dtype=object))


def kept_names(run: RunStore, name: str) -> tuple[int, Iterator[str] | None]:
    """How many ``row_names`` or ``feature_names`` of the training data a run keeps, and all of them in order.

    None instead if the data had none. A chunk is in memory at a time.
    """
    found = zarr.open_group(str(run.path), mode="r").get(f"names/{name}")
    if not isinstance(found, zarr.Array):
        return 0, None
    array, n = found, found.shape[0]
    starts = range(0, n, CHUNK_NAMES)
    return n, (str(text) for lo in starts for text in np.asarray(array[lo : lo + CHUNK_NAMES]).tolist())


def check_names(run: RunStore, dataset: Dataset) -> None:
    """Raise `InputError` if a dataset's rows or columns have other names than the training's.

    The first ones are compared: names are numbered as they come, so those of another source soon differ.
    """
    for name, what in (("row_names", "row"), ("feature_names", "column")):
        both = zip(kept_names(run, name)[1] or (), dataset.iter_names(name) or (), strict=False)
        for i, (ours, theirs) in enumerate(itertools.islice(both, NAMES_COMPARED)):
            if ours != theirs:
                raise InputError(
                    f"{what} {i} of {dataset.path} is {theirs!r} but was {ours!r} in the training of {run.path}; "
                    f"ingest it with --like {run.config['dataset']}"
                )


class KeptRows:
    """The training rows that a run keeps."""

    def __init__(self, run: RunStore) -> None:
        self.run = run
        self.group = zarr.open_group(str(run.path / "rows"), mode="r")
        self.panel_bounds: Int64Array = np.asarray(self.group["panel_bounds"][...])  # type: ignore[index]
        self.panel_nnz: Int64Array = np.asarray(self.group["panel_nnz"][...])  # type: ignore[index]

    def row_ids(self, lo: int, hi: int) -> Int64Array:
        """Row numbers in the source of stored rows ``lo`` to ``hi``."""
        return np.asarray(self.group["row_ids"][lo:hi])  # type: ignore[index]

    def seen(self, panel: int) -> Csr:
        """The entries of a panel of the training, all of value 1."""
        indptr, indices = (np.asarray(self.group[f"panels/{panel}/{n}"][...]) for n in ("indptr", "indices"))  # type: ignore[index]
        return Csr(indptr, indices, np.ones(len(indices), np.float32))

    def check(self, dataset: Dataset, panel: int) -> bool:
        """Whether a panel of a dataset has the rows of the same panel of the training; False for unknown rows.

        Raises
        ------
        InputError
            If it has rows of the training that are stored elsewhere there.
        """
        lo, hi = dataset.panel_bounds[panel : panel + 2].tolist()
        n_rows = int(self.panel_bounds[-1])
        ids = np.asarray(dataset.row_ids[lo:hi])
        if panel + 1 < len(self.panel_bounds):
            ours = self.panel_bounds[panel : panel + 2].tolist()
            if ours == [lo, hi] and np.array_equal(self.row_ids(lo, hi), ids):
                return True
        elif lo >= n_rows and (len(ids) == 0 or ids.min() >= n_rows):
            return False
        raise InputError(
            f"{dataset.path} does not have the rows of the training of {self.run.path}; ingest it with "
            f"--like {self.run.config['dataset']}"
        )
