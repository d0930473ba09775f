"""The data sets of the thesis's experiments with factorization machines, split where they come whole.

Files got by hand are used where they are given; housing and diabetes can be fetched. What stands for ijcnn1 is planted,
in its shape; for realsim, which is newsgroups in two classes, it's NEWS20 in two.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from oocml import api
from oocml.data.dataset import Dataset
from oocml.data.fetch import fetch
from oocml.data.ingest import PANEL_BYTES
from oocml.data.specs import load_spec
from oocml.errors import UsageError

from . import datasets
from .datasets import Splits, is_there

TRAIN_SHARE = 0.7
"""Of the rows of a set that comes whole: what the thesis seems to have kept of realsim."""
FIRST_CLASS = (*range(1, 6), *range(11, 15))
"""Numbers of the groups comp.* and sci.*, in alphabetical order."""
PACKED = ("", ".gz", ".bz2", ".xz")


class Source(NamedTuple):
    """Where a data set comes from."""

    train: str
    """Name of the file, in a folder of the set's name."""
    test: str | None = None
    fetched: bool = False
    """Whether `oocml.data.fetch` can get it."""
    stand_in: Callable[..., Splits] | None = None
    """Makes what is used where the file isn't there, from folder, data_dir, seed and panel_bytes."""


def planted_ijcnn1(folder: Path, data_dir: Path | None, seed: int, panel_bytes: int) -> Splits:
    del data_dir
    shape = {"rows": 49_990, "cols": 22, "nnz_per_row": 13.0}
    made = datasets.planted("ijcnn1", folder, task="binary", seed=seed, panel_bytes=panel_bytes, **shape)
    return made._replace(name="ijcnn1 (planted)")


def two_classes(folder: Path, data_dir: Path | None, seed: int, panel_bytes: int) -> Splits:
    """NEWS20 with tf-idf features: `FIRST_CLASS` against the other groups."""
    news = datasets.real("news20", folder, data_dir)
    made = Splits("news20 (for realsim)", *(folder / f"news20-two-{part}.zarr" for part in ("train", "test")))
    if not (is_there(made.train) and is_there(made.test)):
        for path, source in zip(made[1:], news[1:], strict=True):
            X, y = _read(Dataset.open(source))
            target = np.where(np.isin(y, FIRST_CLASS), 1.0, -1.0)
            _ingest_rows(X, target, path, like=made.train, seed=seed, panel_bytes=panel_bytes)
    return made


SOURCES = {
    "housing": Source("housing_scale", fetched=True),
    "diabetes": Source("diabetes", fetched=True),
    "a9a": Source("a9a", "a9a.t"),
    "ijcnn1": Source("ijcnn1", "ijcnn1.t", stand_in=planted_ijcnn1),
    "realsim": Source("real-sim", stand_in=two_classes),
}
REGRESSION = ("housing",)


def find(
    name: str, folder: Path, data_dir: Path | None = None, seed: int = 0, panel_bytes: int = PANEL_BYTES
) -> Splits:
    """Make the data set, or find it.

    Parameters
    ----------
    folder
        Where datasets are made, once.
    data_dir
        Holds ``NAME/FILE`` as `SOURCES` names them, plain or compressed.
    seed
        Of the split.
    panel_bytes
        As of `oocml.ingest`; row blocks are made of whole panels, so many of them take small ones.

    Raises
    ------
    UsageError
        The data set has to be got by hand and isn't in ``data_dir``.
    """
    source = SOURCES[name]
    folder.mkdir(parents=True, exist_ok=True)
    options = {"panel_bytes": panel_bytes, "overwrite": True}
    train_file, test_file = _given(data_dir, name, source.train), _given(data_dir, name, source.test)
    if train_file is not None and test_file is not None:
        train, test = (folder / f"{name}-{part}.zarr" for part in ("train", "test"))
        datasets.once(train, lambda: api.ingest("libsvm", train_file, str(train), **options))
        like = {"like": str(train), **options}
        datasets.once(test, lambda: api.ingest("libsvm", test_file, str(test), **like))
        return Splits(name, train, test)
    if train_file is not None or source.fetched:
        whole = folder / f"{name}-whole.zarr"
        datasets.once(whole, lambda: _ingest_whole(name, train_file, folder, whole))
        return split(name, whole, folder, seed, panel_bytes)
    if source.stand_in is None:
        raise UsageError(f"{name} has to be got by hand: put {name}/{source.train} into --data-dir")
    return source.stand_in(folder, data_dir, seed=seed, panel_bytes=panel_bytes)


def split(name: str, whole: Path, folder: Path, seed: int, panel_bytes: int) -> Splits:
    """Draw rows to train on; the set has to fit in memory."""
    train, test = (folder / f"{name}-{seed}-{part}.zarr" for part in ("train", "test"))
    if not (is_there(train) and is_there(test)):
        X, y = _read(Dataset.open(whole))
        drawn = np.random.default_rng(seed).permutation(len(y)) < round(TRAIN_SHARE * len(y))
        for path, chosen in ((train, drawn), (test, ~drawn)):
            _ingest_rows(X[chosen], y[chosen], path, like=train, seed=seed, panel_bytes=panel_bytes)
    return Splits(name, train, test)


def _given(data_dir: Path | None, name: str, file: str | None) -> Path | None:
    if data_dir is None or file is None:
        return None
    candidates = (data_dir / name / f"{file}{suffix}" for suffix in PACKED)
    return next((path for path in candidates if path.exists()), None)


def _ingest_whole(name: str, by_hand: Path | None, folder: Path, path: Path) -> None:
    if by_hand is not None:
        api.ingest("libsvm", by_hand, str(path), overwrite=True, keep_order=True)
        return
    spec = load_spec(name)
    fetch(spec, folder / "raw" / name)
    how = spec.ingest["train"]
    sources = [str(folder / "raw" / name / file) for file in how.files]
    api.ingest(how.format, sources, str(path), overwrite=True, keep_order=True, **how.options)


def _ingest_rows(X: sp.csr_array, y: Any, path: Path, *, like: Path, **options: Any) -> None:
    """Make a dataset of what is in memory, with the columns of ``like`` unless it is the one to make."""
    file = path.with_suffix(".npz")
    members = {"indptr": X.indptr, "indices": X.indices, "data": X.data, "shape": np.array(X.shape)}
    np.savez(file, format=np.array(b"csr"), y=y, **members)
    fitted = {} if path == like else {"like": str(like)}
    api.ingest("npz", file, str(path), overwrite=True, **fitted, **options)
    file.unlink()


def _read(dataset: Dataset) -> tuple[sp.csr_array, Any]:
    panels = [dataset.read_panel(p) for p in range(dataset.n_panels)]
    blocks = [
        sp.csr_array(
            (panel.X.data, panel.X.indices, panel.X.indptr), (len(panel.X.indptr) - 1, dataset.n_cols)
        )
        for panel in panels
    ]
    return sp.vstack(blocks, format="csr"), np.concatenate([panel.y for panel in panels])
