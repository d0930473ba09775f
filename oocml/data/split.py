"""One reading of ratings as two datasets: a random part to train on and the rest to test on.

Which part a rating belongs to depends on its user, its item and the seed alone: not on the order of the lines, and
two ratings of one place stay together. The test part is stored like the training part (`oocml.data.gather`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from typing import Any

from oocml.data.dataset import Dataset
from oocml.data.ingest import ingest
from oocml.data.partial import check_target
from oocml.data.source_files import source_bytes
from oocml.errors import InputError, UsageError


def split_path(out: str | os.PathLike[str]) -> str:
    """Where the test part of a dataset goes: ``x-test.zarr`` for ``x.zarr``."""
    stem, suffix = os.path.splitext(os.fspath(out).rstrip("/"))
    return f"{stem}-test{suffix}"


def ingest_split(
    format: str,
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    split: float,
    seed: int = 0,
    overwrite: bool = False,
    like: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Turn ratings into two datasets, ``out`` and `split_path` of it. Repeated after a kill, it goes on.

    Parameters
    ----------
    split
        The share of the ratings that goes to ``out``, between 0 and 1; each is drawn on its own.
    seed
        Of the draw and of the deal.
    options
        As for `oocml.data.ingest.ingest`.

    Returns
    -------
    What `oocml.data.ingest.ingest` returns for ``out``, and of the test part ``test_path``, ``test_nnz``,
    ``test_n_unseen_rows`` and ``test_dropped_features``.

    Raises
    ------
    UsageError
        A share that is none, a format other than ratings, or ``like``.
    InputError
        As for `oocml.data.ingest.ingest`; neither dataset is left behind.
    """
    if format not in ("ratings", "ratings-matrix") or like is not None:
        raise UsageError(
            "a split is of ratings, and of all of them" + (" (leave out --like)" if like is not None else "")
        )
    several = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    out, test = os.fspath(out), split_path(out)
    drawn = {"fraction": float(split), "split_seed": seed, "seed": seed}
    check_target(test, overwrite=overwrite)
    begun = not overwrite and _is_done(out, several, float(split), seed)
    if begun:
        info = {**Dataset.open(out).info(), "resumed_parts": 0}
    else:
        info = ingest(format, several, out, share="train", overwrite=overwrite, **drawn, **options)
    try:
        of_test = ingest(
            format, several, test, like=out, share="test", overwrite=overwrite, **drawn, **options
        )
    except InputError:
        if not begun:
            shutil.rmtree(out)
        raise
    told = {f"test_{name}": of_test[name] for name in ("path", "nnz", "n_unseen_rows", "dropped_features")}
    return {**info, "seconds": info["seconds"] + of_test["seconds"], **told}


def _is_done(out: str, sources: Sequence[str | os.PathLike[str]], fraction: float, seed: int) -> bool:
    """Whether ``out`` is the training part of the very split that is wanted."""
    if not os.path.exists(out):
        return False
    attrs = Dataset.open(out).attrs
    if attrs.get("split") != {"share": "train", "fraction": fraction, "seed": seed}:
        return False
    known = [(source["bytes"], source["sha256"]) for source in attrs["source"]]
    return known == [(source_bytes(os.fspath(path)), _sha256(path)) for path in sources]


def _sha256(path: str | os.PathLike[str]) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
