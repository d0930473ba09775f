"""One reading of files as two datasets: a random part to train on and the rest to test on.

Ratings are drawn one by one. Which part one belongs to depends on its user, its item and the seed alone: not on the
order of the lines, and two ratings of one place stay together. The test part is stored like the training part
(`oocml.data.gather`).

Of other formats whole rows are drawn (`oocml.data.draw`), and rows are numbered within their part.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from oocml.data.arguments import difference
from oocml.data.dataset import Dataset
from oocml.data.draw import Draw
from oocml.data.ingest import PANEL_BYTES, ingest
from oocml.data.partial import check_target
from oocml.data.source_files import source_bytes
from oocml.errors import InputError, UsageError

RATINGS = ("ratings", "ratings-matrix", "interactions")
ROWS = ("csv", "docword", "ldac", "letor", "libsvm", "npy")
"""Formats whose columns do not depend on which rows are read."""
DEFAULTS = {"max_bad": 0, "keep_order": False, "panel_bytes": PANEL_BYTES, "transform": "none"}
"""Of what decides the rows, where it is not given."""
TOLD = ("path", "n_rows", "nnz", "dropped_features", "n_unseen_users", "n_dropped_of_unseen_items")


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
    """Turn files into two datasets, ``out`` and `split_path` of it. Repeated after a kill, it goes on.

    Parameters
    ----------
    split
        The share of the ratings, or of the rows, that goes to ``out``, between 0 and 1; each is drawn on its own.
    seed
        Of the draw and of the deal.
    options
        As for `oocml.data.ingest.ingest`.

    Returns
    -------
    What `oocml.data.ingest.ingest` returns for ``out``, and of the test part ``test_path``, ``test_n_rows``,
    ``test_nnz`` and what it lost: ``test_dropped_features``, or of ratings ``test_n_unseen_users`` and
    ``test_n_dropped_of_unseen_items``.

    Raises
    ------
    UsageError
        A share that is none, a format that can't be split, ``like``, or a repetition with other arguments.
    InputError
        As for `oocml.data.ingest.ingest`; neither dataset is left behind.
    """
    if format not in (*RATINGS, *ROWS):
        raise UsageError(f"{format} can't be split; formats that can are {', '.join((*RATINGS, *ROWS))}")
    if like is not None:
        raise UsageError("a split is of all ratings or rows, and makes its own test set; leave out --like")
    several = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    out, test = os.fspath(out), split_path(out)
    of_train, of_rest = (_share(format, share, float(split), seed) for share in ("train", "test"))
    check_target(test, overwrite=overwrite)
    rest = {name: value for name, value in options.items() if name not in ("transform", "n_cols")}
    begun = not overwrite and _is_done(out, several, float(split), seed)
    if begun:
        _check_arguments(format, out, options)
    if begun:
        info = {**Dataset.open(out).info(), "resumed_parts": 0}
    else:
        info = ingest(format, several, out, overwrite=overwrite, **of_train, **options)
    try:
        of_test = ingest(format, several, test, like=out, overwrite=overwrite, **of_rest, **rest)
    except InputError:
        if not begun:
            shutil.rmtree(out)
        raise
    told = {f"test_{name}": of_test[name] for name in TOLD if name in of_test}
    return {**info, "seconds": info["seconds"] + of_test["seconds"], **told}


def _share(format: str, share: str, fraction: float, seed: int) -> dict[str, Any]:
    """What `ingest` needs to be told of one part."""
    if format in RATINGS:
        return {"share": share, "fraction": fraction, "split_seed": seed, "seed": seed}
    if not 0 < fraction < 1:
        raise UsageError(f"split={fraction:g} is no share between 0 and 1, such as 0.9")
    return {"draw": Draw(share, fraction, seed), "seed": seed}


def _is_done(out: str, sources: Sequence[str | os.PathLike[str]], fraction: float, seed: int) -> bool:
    """Whether ``out`` is the training part of the very split that is wanted."""
    if not os.path.exists(out):
        return False
    attrs = Dataset.open(out).attrs
    if attrs.get("split") != {"share": "train", "fraction": fraction, "seed": seed}:
        return False
    known = [(source["bytes"], source["sha256"]) for source in attrs["source"]]
    return known == [(source_bytes(os.fspath(path)), _sha256(path)) for path in sources]


def _check_arguments(format: str, out: str, options: Mapping[str, Any]) -> None:
    """Raise `UsageError` if ``out`` was made with other arguments than these."""
    known = Dataset.open(out).attrs.get("arguments")
    other = None if known is None else difference(format, known, {**DEFAULTS, **options})
    if other is not None:
        raise UsageError(
            f"{out} is the training part of this split, but was made with {other}; give the same options to go on, "
            "another name, or --overwrite"
        )


def _sha256(path: str | os.PathLike[str]) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
