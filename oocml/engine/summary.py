"""The summary that a model makes of its state, with the data's names of columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from oocml.engine.kept_rows import kept_names
from oocml.engine.state_reader import StateReader
from oocml.models.top_columns import TopColumns
from oocml.store.run import RunStore


def summarize(run: RunStore, checkpoint: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """The parts of a model by what they are called, the largest first; empty where a model has no summary or no state.

    Each part is ``number``, ``share`` and ``top``: a list of ``column`` (of the dataset), ``name`` (None where the data
    has none) and ``weight``.
    """
    reader = StateReader(run, checkpoint)
    model: Any = reader.model
    if not hasattr(model, "summary"):
        return {}
    if not all(reader.ledger.stamps[name][0] for name in model.summary_reads):
        return {}
    state = {name: reader.block(name, 0) for name in model.summary_reads}
    found: TopColumns = model.summary(reader.problem, state)
    columns = np.asarray(found.columns, np.int64)
    names = _names(run, columns[columns >= 0].tolist())
    parts = []
    for k in np.argsort(-np.asarray(found.share, np.float64), kind="stable").tolist():
        top = [
            {"column": column, "name": names.get(column), "weight": float(weight)}
            for column, weight in zip(columns[k].tolist(), found.weights[k], strict=True)
            if column >= 0
        ]
        parts.append({"number": k, "share": float(found.share[k]), "top": top})
    return {found.what: parts}


def top_text(top: Iterable[Mapping[str, Any]]) -> str:
    """The ``top`` of a part as a line: names, or numbers of columns, with their weights."""
    columns = ((item["column"] if item["name"] is None else item["name"], item["weight"]) for item in top)
    return ", ".join(f"{name} {weight:.3g}" for name, weight in columns)


def _names(run: RunStore, columns: Iterable[int]) -> dict[int, str]:
    """Names of some columns of the dataset, those that it has."""
    wanted = set(columns)
    _, names = kept_names(run, "feature_names")
    if names is None:
        return {}
    return {column: name for column, name in enumerate(names) if column in wanted}
