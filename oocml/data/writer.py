"""The write side of a dataset: panels in any order from any process, then one rename.

Everything is written below ``<path>.partial``, which no reader opens::

    <path>.partial/store   what becomes <path>
    <path>.partial/rows    row numbers, labels and query ids of each panel until the panel bounds are known
    <path>.partial/lock    held by the process that made the writer

Root arrays and the attributes that make a dataset are written last, then ``store`` is renamed to ``<path>``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from oocml.data.dataset import SCHEMA
from oocml.data.feature_stats import FeatureStatsWriter, dense_stats, sparse_stats
from oocml.data.panel_rows import PanelRows
from oocml.data.partial import Lock, check_target, claim, empty, partial_of
from oocml.data.zarr_arrays import (
    CHUNK_BYTES,
    crc_of,
    create,
    write_array,
    write_names,
    write_transform,
)
from oocml.errors import InputError, UsageError
from oocml.types import Csr, Int64Array, Panel


class DatasetWriter:
    """Writes one dataset.

    Parameters
    ----------
    path
        Where the dataset will appear. Must not exist, unless ``overwrite`` and it is a dataset.
    n_cols
        Number of columns.
    label_kind
        ``"none"``, ``"number"`` (``Panel.y`` float64, NaN = none) or ``"sets"`` (`LabelSets` whose
        indices are positions in the ``labels`` given to `finish`).
    sparse
        False stores one dense float32 array; every panel but the last must then have the same rows.
    lock
        What `claim` returned, if the partial folder is already this process's; its contents are then kept.

    A writer may be pickled to other processes, which may call `write_panel`; only the process that made
    it holds the lock and may call `finish` or `discard`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        n_cols: int,
        label_kind: str,
        sparse: bool = True,
        overwrite: bool = False,
        lock: Lock | None = None,
    ) -> None:
        if label_kind not in ("none", "number", "sets"):
            raise UsageError(f"label kind {label_kind!r} is none of none, number, sets")
        self.path = os.path.abspath(path)
        self.n_cols = int(n_cols)
        self.label_kind = label_kind
        self.sparse = sparse
        self.overwrite = overwrite
        check_target(self.path, overwrite=overwrite)
        self._lock: Lock | None = lock
        if lock is None:
            self._lock = claim(self.partial)
            empty(self.partial)
        self._store.mkdir(exist_ok=True)
        self._rows.folder.mkdir(exist_ok=True)
        zarr.open_group(str(self._store), mode="a").require_group("panels")

    @property
    def partial(self) -> Path:
        return partial_of(self.path)

    @property
    def _store(self) -> Path:
        return self.partial / "store"

    @property
    def _rows(self) -> PanelRows:
        return PanelRows(self.partial / "rows", self.label_kind)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}

    # -- panels -----------------------------------------------------------------------------------------

    def write_panel(self, p: int, panel: Panel, *, qid: Int64Array | None = None) -> None:
        """Write panel ``p`` (sparse data). Writing it again replaces it; its rows exist last."""
        if not self.sparse:
            raise UsageError("this writer stores dense data; use write_dense_panel")
        X = _as_stored(panel.X, self.n_cols)
        group = zarr.open_group(str(self._store), path=f"panels/{p}", mode="a")
        shape = [len(X.indptr) - 1, self.n_cols]
        encoding = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape}
        X_group = group.create_group("X", overwrite=True, attributes=encoding)
        for name, values in zip(Csr._fields, X, strict=True):
            write_array(X_group, name, values, len(values))
        self._rows.write(p, panel, qid, nnz=len(X.data), crc=crc_of(*X))

    def write_dense_panel(self, p: int, values: npt.NDArray[np.float32], panel: Panel, lo: int) -> None:
        """Write panel ``p`` of dense data, whose first stored row is ``lo``; ``panel.X`` is ignored.

        ``lo`` must be ``p`` times the rows of a panel. Shape (rows, n_cols).
        """
        values = np.ascontiguousarray(values, dtype=np.float32)
        array = self._dense_array(rows=lo // p if p else len(values))
        array[lo : lo + len(values)] = values
        self._rows.write(p, panel, None, nnz=int(np.count_nonzero(values)), crc=crc_of(values))

    def has_panel(self, p: int) -> bool:
        return self._rows.file(p).exists()

    def _dense_array(self, rows: int) -> Any:
        """The dense array with a shape no data reaches; `finish` writes the true one."""
        group = zarr.open_group(str(self._store), mode="a")
        if "X" not in group:
            cols = max(1, min(self.n_cols, CHUNK_BYTES // (4 * max(rows, 1))))
            try:
                return create(group, "X", (1 << 48, self.n_cols), np.dtype(np.float32), (max(rows, 1), cols))
            except zarr.errors.ContainsArrayError:  # another process was first
                pass
        return group["X"]

    # -- the end ----------------------------------------------------------------------------------------

    def finish(
        self,
        *,
        n_panels: int,
        panels: Sequence[int] | None = None,
        attrs: Mapping[str, Any] | None = None,
        labels: npt.ArrayLike | None = None,
        label_names: Sequence[str] | None = None,
        feature_names: Sequence[str] | None = None,
        row_names: Sequence[str] | None = None,
        transform: Mapping[str, Any] | None = None,
        arrays: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> str:
        """Join the panels into a dataset and let it appear. Returns its path.

        Parameters
        ----------
        n_panels
            How many panels there are.
        panels
            Their numbers as written, increasing, if they aren't 0, 1, ...; they are renumbered (sparse data).
        attrs
            Added to the ``oocml`` attributes (``source``, ``sha256``, ``index_base``, ...).
        labels
            Label ids that label sets index, in increasing order. For numbers it is worked out here.
        transform
            ``kind`` and fitted values; arrays among them are stored below ``transform/``.
        arrays
            More arrays for the root group.
        """
        root = zarr.open_group(str(self._store), mode="a")
        if panels is not None:
            self._renumber(panels)
        missing = [p for p in range(n_panels) if not self.has_panel(p)]
        if missing:
            raise InputError(
                f"{self.path}: {len(missing)} of {n_panels} panels were never written: {missing[:5]}"
            )
        sizes = np.array([self._rows.load(p, "sizes") for p in range(n_panels)], np.int64).reshape(
            n_panels, 2
        )
        rows = [len(self._rows.load(p, "row_ids")) for p in range(n_panels)]
        bounds = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        write_array(root, "panel_bounds", bounds, len(bounds))
        write_array(root, "panel_nnz", sizes[:, 0], n_panels)
        write_array(root, "panel_crc", sizes[:, 1].astype(np.uint32), n_panels)
        n_queries = self._rows.join_rows(root, bounds)
        known = self._rows.join_labels(root, bounds, labels)
        if not self.sparse:
            self._set_dense_shape(int(bounds[-1]))
        features = self._write_feature_stats(root, bounds)
        names = {"label_names": label_names, "feature_names": feature_names, "row_names": row_names}
        for name, texts in names.items():
            if texts is not None:
                write_names(root, name, texts)
        if known is not None:
            write_array(root, "labels", known, len(known))
        scalars = write_transform(root, transform or {"kind": "none"})
        for name, values in (arrays or {}).items():
            write_array(root, name, values, len(values))
        facts = {
            "kind": "dataset",
            "schema": SCHEMA,
            "n_rows": int(bounds[-1]),
            "n_cols": self.n_cols,
            "nnz": int(sizes[:, 0].sum()),
            "sparse": self.sparse,
            "label_kind": self.label_kind,
            "index_base": 0,
            "features": features,
            "transform": scalars,
            "source": [],
            "bad_lines": 0,
        }
        if n_queries:
            facts["n_queries"] = n_queries
        root.attrs["oocml"] = {**facts, **(attrs or {})}
        self._appear()
        return self.path

    def _renumber(self, panels: Sequence[int]) -> None:
        """Close the gaps. In increasing order every place is free when its turn comes, also when begun again."""
        for new, old in enumerate(panels):
            if new != old:
                for before, after in (
                    (self._store / f"panels/{old}", self._store / f"panels/{new}"),
                    (self._rows.file(old), self._rows.file(new)),
                ):
                    if not after.exists() and before.exists():
                        os.rename(before, after)

    def discard(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.partial, ignore_errors=True)
        if self._lock is not None:
            self._lock.release()

    def _appear(self) -> None:
        for stray in self._store.rglob("*.partial"):  # of a chunk whose writer was killed before its rename
            stray.unlink()
        aside = self.partial / "replaced"
        if os.path.exists(self.path):
            check_target(self.path, overwrite=self.overwrite)
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(self.path, aside)
        os.rename(self._store, self.path)
        self.discard()

    def _set_dense_shape(self, n_rows: int) -> None:
        """Cut the dense array's shape to the rows written (a resize would look for 2**48 chunks)."""
        path = self._store / "X" / "zarr.json"
        meta = json.loads(path.read_bytes())
        meta["shape"] = [n_rows, self.n_cols]
        temporary = path.with_name("zarr.json.tmp")
        temporary.write_text(json.dumps(meta, indent=2))
        os.replace(temporary, path)

    def _write_feature_stats(self, root: zarr.Group, bounds: Int64Array) -> dict[str, int]:
        """Returns what the attributes say of all columns together."""
        n_panels, writer = len(bounds) - 1, FeatureStatsWriter(root, self.n_cols)
        if self.sparse:
            groups = (root[f"panels/{p}/X"] for p in range(n_panels))
            panels = ((np.asarray(X["indices"][:]), np.asarray(X["data"][:])) for X in groups)  # type: ignore[index]
            for statistics in sparse_stats(panels, self.n_cols, self.partial / "columns"):
                writer.add(*statistics)
        else:
            rows = (np.asarray(root["X"][lo:hi]) for lo, hi in zip(bounds[:-1], bounds[1:], strict=True))  # type: ignore[index]
            writer.add(*dense_stats(rows, self.n_cols))
        return {"n_used": writer.n_used, "max_nnz": writer.max_nnz}


def _as_stored(X: Csr, n_cols: int) -> Csr:
    X = Csr(
        np.ascontiguousarray(X.indptr, np.int64),
        np.ascontiguousarray(X.indices, np.int32),
        np.ascontiguousarray(X.data, np.float32),
    )
    if len(X.indices) and not (X.indices.min() >= 0 and X.indices.max() < n_cols):
        raise InputError(f"column {X.indices.max()} outside the {n_cols} columns of the dataset")
    return X
