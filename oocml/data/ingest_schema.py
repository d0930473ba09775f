"""From the records of all parts to what the dataset is: totals, columns, kind of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from oocml.data.ingest_job import PartRecord
from oocml.data.label_table import MAX_LABELS
from oocml.data.readers import Schema, Totals
from oocml.errors import InputError


def totals_of(records: Sequence[PartRecord]) -> Totals:
    """What all parts together hold."""
    seen = [record.index_range for record in records if record.index_range[1] >= 0]
    n_rows, n_queries = sum(r.n_rows for r in records), sum(r.n_queries for r in records)
    if 0 < n_queries < n_rows:
        raise InputError(f"{n_rows - n_queries} of {n_rows} rows have no qid; give every row one, or none")
    max_labels = max((r.max_labels for r in records), default=0)
    return Totals(
        n_rows=n_rows,
        nnz=sum(r.nnz for r in records),
        n_bad=sum(r.bad.count for r in records),
        min_index=min((low for low, _ in seen), default=-1),
        max_index=max((high for _, high in seen), default=-1),
        n_labels=sum(r.n_labels for r in records),
        max_labels=max_labels,
        labels=_distinct([r.labels for r in records], single=max_labels <= 1),
        has_qid=n_queries > 0,
        dense=any(r.dense for r in records),
    )


def _distinct(labels: Sequence[npt.NDArray[Any] | None], *, single: bool) -> npt.NDArray[Any] | None:
    known: npt.NDArray[Any] = np.zeros(0)
    for found in labels:
        if found is None:
            return None
        known = np.union1d(known, found)
        if single and len(known) > MAX_LABELS:
            return None
    return known


def checked(schema: Schema, totals: Totals, n_cols: int | None, paths: Sequence[str]) -> Schema:
    """The schema, widened to the columns asked for."""
    if n_cols is not None:
        if schema.n_cols > n_cols:
            raise InputError(f"{paths[0]} has {schema.n_cols} columns, more than the {n_cols} asked for")
        schema = replace(schema, n_cols=n_cols)
    if schema.n_cols < 1:
        raise InputError(f"{paths[0]} has no features in any of {totals.n_rows} rows")
    if totals.dense and totals.max_index + 1 != schema.n_cols:
        raise InputError(f"{paths[0]} has {totals.max_index + 1} columns, not {schema.n_cols}")
    return schema


def label_kind_of(schema: Schema, totals: Totals, path: str) -> tuple[str, npt.NDArray[Any] | None]:
    """Kind of labels, and the label ids that sets index."""
    kind = schema.label_kind
    if kind is None:
        kind = "sets" if totals.max_labels > 1 else "number" if totals.n_labels else "none"
    if kind != "sets":
        return kind, schema.labels
    if schema.labels is not None:
        return kind, schema.labels
    if totals.labels is None:
        raise InputError(f"{path}: rows with several labels need whole numbers as labels, some are not")
    return kind, totals.labels.astype(np.int64)
