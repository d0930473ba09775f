"""What a dataset is, in numbers for people and programs."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oocml.data.dataset import Dataset

NOT_EVERYWHERE = ("duplicates", "n_queries")
"""Attributes that only some datasets have."""


def describe(dataset: Dataset, *, deep: bool) -> dict[str, Any]:
    """The keys of ``oocml info --json``; see `oocml.data.dataset.Dataset.info`."""
    started = time.perf_counter()
    problem, attrs = dataset.problem(deep=deep), dataset.attrs
    return {
        "kind": "dataset",
        "path": dataset.path,
        "n_rows": dataset.n_rows,
        "n_cols": dataset.n_cols,
        "nnz": dataset.nnz,
        "n_classes": None if dataset.labels is None else len(dataset.labels),
        "n_row_blocks": dataset.n_panels,
        "label_kind": dataset.label_kind,
        "sparse": dataset.sparse,
        "index_base": dataset.index_base,
        "transform": attrs["transform"]["kind"],
        "bytes": stored_bytes(dataset.path),
        "bad_lines": int(attrs.get("bad_lines", 0)),
        **_left_out(attrs),
        "source": attrs.get("source", []),
        **{name: attrs[name] for name in NOT_EVERYWHERE if name in attrs},
        "whole": problem is None,
        "problem": problem,
        "seconds": time.perf_counter() - started,
    }


def _left_out(attrs: dict[str, Any]) -> dict[str, int]:
    """Of what the training set lacks, in the words of the data: ratings and interactions have users and items.

    Counted are the entries that were dropped, as their columns are unknown, and the rows that were added.
    """
    dropped = int(attrs.get("dropped_features", 0))
    if "duplicates" not in attrs:  # rows that were not gathered from entries
        return {"dropped_features": dropped}
    if "n_unseen_rows" not in attrs:  # a training set
        return {}
    return {"n_unseen_users": attrs["n_unseen_rows"], "n_dropped_of_unseen_items": dropped}


def stored_bytes(path: str) -> int:
    """Bytes of all files below ``path``."""
    return sum(
        os.path.getsize(os.path.join(where, name)) for where, _, names in os.walk(path) for name in names
    )
