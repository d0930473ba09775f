"""Making the tiles of a dataset: row blocks in any order from any process, then one rename.

Everything is made below ``<path>.partial``, which no reader opens and which a repeated build goes on from::

    <path>.partial/store      what becomes <path>
    <path>.partial/facts      entries and checksums of the tiles of every row block that is whole
    <path>.partial/lock       held by the process that began the build

A row block's panels are read twice, one at a time: to find where each of its tiles begins, and to write their
entries into place. So a row block may be much larger than memory.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr

from oocml.data.column_order import ColumnOrder, deal_columns
from oocml.data.dataset import Dataset
from oocml.data.feature_arrays import of_dataset
from oocml.data.partial import Lock, claim, partial_of
from oocml.data.tile_rows import open_plan, write_row_block
from oocml.data.tiles import COUNT_BYTES, SCHEMA, tiles_path, tiles_sha256
from oocml.data.zarr_arrays import write_array
from oocml.errors import DoesNotFit, InputError, RunBusy
from oocml.kernels.tiles import MOST_HEAVY, cutting_bytes, order_bytes
from oocml.store.chunks import write_failed

_counter = itertools.count()


class BuildMessage(NamedTuple):
    """Asks for the tiles of one row block."""

    partial: str
    dataset: str
    p: int


class TileBuild:
    """Tiles being made by this process and the workers it sends `BuildMessage`s to."""

    def __init__(self, path: str, messages: list[BuildMessage], lock: Lock | None) -> None:
        self.path = path
        self.messages = messages
        """One for each row block that is missing, for `build_row_block`; none if the tiles are whole."""
        self._lock = lock

    def release(self) -> None:
        """Let another process go on; may be called again. What was built stays."""
        if self._lock is not None:
            self._lock.release()


def build_tiles(dataset: Dataset, row_panels: Sequence[int], col_bounds: Sequence[int]) -> str:
    """Make the tiles in this process, unless they are there. Returns their path."""
    build = begin_tiles(dataset, row_panels, col_bounds)
    try:
        for message in build.messages:
            build_row_block(message)
        return finish_tiles(build)
    finally:
        build.release()


def missing_row_blocks(path: str, n_row_blocks: int) -> list[int]:
    """Row blocks whose tiles are not made yet."""
    if os.path.exists(path):
        return []
    facts = partial_of(path) / "facts"
    return [p for p in range(n_row_blocks) if not (facts / f"{p}.npz").exists()]


def tiles_disk_bytes(nnz: int, n_rows: int, n_col_blocks: int, n_cols: int) -> int:
    """Bytes that tiles take on disk at most, but for row blocks with a row of 65,536 entries or more."""
    return 8 * nnz + COUNT_BYTES * n_rows * n_col_blocks + 8 * min(n_cols, MOST_HEAVY)


def build_bytes(dataset: Dataset, n_col_blocks: int) -> int:
    """Memory that `build_row_block` takes at most, whatever the size of the row block."""
    panel = max((dataset.panel_bytes(p) for p in range(dataset.n_panels)), default=0)
    rows = int(np.diff(dataset.panel_bounds).max(initial=0))
    if not dataset.sparse:
        panel += 20 * dataset.n_cols * rows
    return cutting_bytes(panel, rows, n_col_blocks) + order_bytes(dataset.n_cols)


def begin_tiles(
    dataset: Dataset,
    row_panels: Sequence[int],
    col_bounds: Sequence[int],
    order: ColumnOrder | None = None,
) -> TileBuild:
    """Begin to make tiles, or go on where an earlier build stopped.

    Parameters
    ----------
    row_panels
        Row block p is panels ``row_panels[p]:row_panels[p + 1]``.
    col_bounds
        Column block q is places ``col_bounds[q]:col_bounds[q + 1]`` of the run's order of columns.
    order
        What `deal_columns` gives, if that is at hand.

    Returns
    -------
    TileBuild
        Send its ``messages`` to `build_row_block` anywhere, in any order, then call `finish_tiles`.

    Raises
    ------
    RunBusy
        Another process makes the same tiles.
    DoesNotFit, InputError
        There is no room beside the dataset, or the folder cannot be written.
    """
    path = tiles_path(dataset, row_panels, col_bounds)
    n_row_blocks = len(row_panels) - 1
    if os.path.exists(path):
        return TileBuild(path, [], None)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make {os.path.dirname(path)}: {error.strerror}; tiles are kept there"
        ) from None
    partial = partial_of(path)
    try:
        lock = claim(partial)
    except RunBusy:
        raise RunBusy(f"{partial} is being made by another process; try again when that is done") from None
    try:
        if os.path.exists(path):  # another process was faster
            shutil.rmtree(partial)
            lock.release()
            return TileBuild(path, [], None)
        _prepare(dataset, partial, row_panels, col_bounds, order)
    except OSError as error:
        lock.release()
        raise write_failed(error, partial) from None
    except BaseException:
        lock.release()
        raise
    todo = missing_row_blocks(path, n_row_blocks)
    return TileBuild(path, [BuildMessage(str(partial), dataset.path, p) for p in todo], lock)


def build_row_block(message: BuildMessage) -> int:
    """Make all tiles of one row block; returns its number. Done already: nothing happens.

    May run in several processes at once, also for the same row block.
    """
    partial = Path(message.partial)
    facts = partial / "facts" / f"{message.p}.npz"
    if facts.exists():
        return message.p
    mark = f"{os.getpid()}-{next(_counter)}.partial"
    folder = partial / "store" / "blocks" / f"{message.p}.{mark}"
    try:
        nnz, crc, count_bytes = write_row_block(*message, folder)
        try:
            os.rename(folder, folder.with_name(str(message.p)))
        except OSError:
            if not folder.with_name(str(message.p)).exists():
                raise
            shutil.rmtree(folder)  # another builder was faster; it wrote the same bytes
        with open(facts.with_name(f"{message.p}.{mark}"), "wb") as file:
            np.savez(file, nnz=nnz, crc=crc, count_bytes=np.uint8(count_bytes))
        os.rename(file.name, facts)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise write_failed(error, folder) from error
    return message.p


def finish_tiles(build: TileBuild) -> str:
    """Join what was built and let it appear. Returns its path."""
    if os.path.exists(build.path):
        build.release()
        return build.path
    partial = partial_of(build.path)
    plan = open_plan(str(partial))
    missing = missing_row_blocks(build.path, plan.n_row_blocks)
    if missing:
        raise InputError(f"{build.path}: row blocks {missing[:5]} ({len(missing)} in all) were never made")
    try:
        store = partial / "store"
        tables: dict[str, list[Any]] = {"nnz": [], "crc": [], "count_bytes": []}
        for p in range(plan.n_row_blocks):
            with np.load(partial / "facts" / f"{p}.npz") as facts:
                for name, rows in tables.items():
                    rows.append(facts[name])
        root = zarr.open_group(str(store), mode="a")
        for name, rows in tables.items():
            values = np.stack(rows)
            root.create_array(
                name, data=values, chunks=values.shape, compressors=None, overwrite=True,
                config={"write_empty_chunks": True},
            )  # fmt: skip
        for stray in (store / "blocks").glob("*.partial"):  # of a builder that was killed
            shutil.rmtree(stray)
        os.rename(store, build.path)
        shutil.rmtree(partial)
    except OSError as error:
        raise write_failed(error, partial) from error
    finally:
        build.release()
    return build.path


def _prepare(
    dataset: Dataset,
    partial: Path,
    row_panels: Sequence[int],
    col_bounds: Sequence[int],
    order: ColumnOrder | None,
) -> None:
    """Everything but the row blocks; the store's attributes are written last."""
    store = partial / "store"
    (partial / "facts").mkdir(exist_ok=True)
    if (store / "blocks" / "zarr.json").exists():
        for folder in (store / "blocks", partial / "facts"):
            for stray in folder.glob("*.partial"):  # of a builder that was killed
                shutil.rmtree(stray) if stray.is_dir() else stray.unlink()
        return
    n_blocks = len(col_bounds) - 1
    needed = tiles_disk_bytes(dataset.nnz, dataset.n_rows, n_blocks, dataset.n_cols)
    free = shutil.disk_usage(partial).free
    if needed > free:
        raise DoesNotFit(
            f"{partial} takes {needed >> 20}MiB on disk but there are {free >> 20}MiB free; "
            "free space, or remove tiles of other runs from that folder"
        )
    if order is None:
        order = deal_columns(of_dataset(dataset, "feature_nnz"), col_bounds)
    root = zarr.open_group(str(store), mode="w")
    bounds = np.asarray(row_panels, np.int64)
    order.save(root.create_group("order"))
    write_array(root, "row_panels", bounds, len(bounds))
    write_array(root, "row_bounds", dataset.panel_bounds[bounds], len(bounds))
    write_array(root, "col_bounds", np.asarray(col_bounds, np.int64), n_blocks + 1)
    root.attrs["oocml"] = {
        "kind": "tiles",
        "schema": SCHEMA,
        "n_rows": int(dataset.panel_bounds[bounds[-1]]),
        "n_cols": dataset.n_cols,
        "nnz": int(dataset.panel_nnz[: bounds[-1]].sum()),
        "sha256": tiles_sha256(dataset, row_panels, col_bounds),
    }
    root.create_group("blocks")
