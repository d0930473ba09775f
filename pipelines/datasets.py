"""The datasets of the experiments: the user's own, those of specs, and stand-ins for what can't be had.

Everything is made once under a folder and found there the next time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from oocml import api
from oocml.data.fetch import fetch
from oocml.data.specs import Spec, load_spec
from oocml.data.synth import PANEL_BYTES, synth
from oocml.errors import InputError

TEST_ROWS = 1000
"""Fewest rows of a stand-in's test split."""


class Splits(NamedTuple):
    name: str
    train: Path
    test: Path | None


def real(name: str, folder: Path, data_dir: Path | None = None, transform: str | None = None) -> Splits:
    """Fetch and ingest a data set by its spec.

    Parameters
    ----------
    data_dir
        Where files got by hand are: ``data_dir/NAME/train.svm`` and ``test.svm``, also compressed.
    transform
        Instead of the spec's.

    Raises
    ------
    UsageError
        The data set has to be got by hand and isn't in ``data_dir``.
    """
    spec = load_spec(name)
    folder.mkdir(parents=True, exist_ok=True)
    kind = transform if transform is not None else spec.ingest["train"].transform
    train, test = (folder / f"{name}-{kind}-{split}.zarr" for split in ("train", "test"))
    by_hand = {split: _given(data_dir, name, split) for split in ("train", "test")}
    has_test = by_hand["test"] is not None if by_hand["train"] else "test" in spec.ingest
    wanted = {"train": train, **({"test": test} if has_test else {})}
    if not all(is_there(path) for path in wanted.values()):
        if by_hand["train"] is None:
            fetch(spec, folder / "raw" / name)
        for split, path in wanted.items():
            fitted = {"transform": kind} if split == "train" else {"like": str(train)}
            _ingest(spec, split, by_hand[split], folder, path, fitted)
    return Splits(name if transform is None else f"{name} {kind}", train, wanted.get("test"))


def stand_in(name: str, scale: float, folder: Path, seed: int = 0) -> Splits:
    """Make a stand-in whose model is ``scale`` times that of the spec.

    Rows, features and classes shrink by the square root of ``scale`` each, so that rows per class stay; data with few
    features (up to 10,000) keeps them all.
    """
    spec, by = load_spec(name), math.sqrt(scale)
    folder.mkdir(parents=True, exist_ok=True)
    shape: dict[str, Any] = {"rows": _shrunk(spec.rows, by), "classes": _shrunk(spec.classes, by)}
    if spec.cols is not None and spec.cols > 10_000:
        shape["cols"] = max(_shrunk(spec.cols, by) or 1, math.ceil(2 * (spec.nnz_per_row or 1)))
    label = f"{name}@{scale:g}"
    train, test = (folder / f"{label}-{split}.zarr" for split in ("train", "test"))
    if not is_there(train):
        synth(spec, train, seed=seed, overwrite=True, **shape)
    if not is_there(test):
        rows = max(TEST_ROWS, (shape["rows"] or 0) // 10)
        synth(spec, test, seed=seed, split="test", overwrite=True, **{**shape, "rows": rows})
    return Splits(label, train, test)


def planted(
    spec: str,
    folder: Path,
    *,
    task: str,
    rows: int,
    cols: int,
    nnz_per_row: float,
    panel_bytes: int = PANEL_BYTES,
    seed: int = 0,
) -> Splits:
    """Make a data set of the kind of ``spec`` and a shape of one's own, with something planted for ``task``.

    Tests have the same users and items where the task is ratings ("factors"), else a quarter as many rows.
    """
    shape = {"rows": rows, "cols": cols, "nnz_per_row": nnz_per_row}
    label = f"{spec}-{task}-{rows}x{cols}x{nnz_per_row:g}-{panel_bytes}"
    train, test = (folder / f"{label}-{split}.zarr" for split in ("train", "test"))
    options = {"task": task, "seed": seed, "panel_bytes": panel_bytes, "overwrite": True}
    once(train, lambda: synth(spec, train, **shape, **options))
    of_test = shape if task == "factors" else {**shape, "rows": max(TEST_ROWS, rows // 4)}
    once(test, lambda: synth(spec, test, split="test", **of_test, **options))
    return Splits(f"planted {rows}x{cols}", train, test)


def once(path: Path, make: Callable[[], object]) -> Path:
    """The dataset at ``path``, made first if it isn't there."""
    if not is_there(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        make()
    return path


def _shrunk(size: int | None, by: float) -> int | None:
    return None if size is None else max(2, round(size * by))


def _given(data_dir: Path | None, name: str, split: str) -> Path | None:
    if data_dir is None:
        return None
    return next(iter(sorted((data_dir / name).glob(f"{split}.svm*"))), None)


def is_there(path: Path) -> bool:
    try:
        api.open_dataset(path)
    except InputError:
        return False
    return True


def _ingest(
    spec: Spec, split: str, by_hand: Path | None, folder: Path, path: Path, fitted: dict[str, Any]
) -> None:
    if by_hand is not None:
        api.ingest("libsvm", by_hand, str(path), overwrite=True, **fitted)
        return
    how = spec.ingest[split]
    sources = [str(folder / "raw" / spec.name / file) for file in how.files]
    api.ingest(how.format, sources, str(path), overwrite=True, **fitted, **how.options)
