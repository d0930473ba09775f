"""The tiles of a run's dataset: made when first needed, kept beside the dataset."""

from __future__ import annotations

import os
import time

from oocml.data.dataset import Dataset
from oocml.data.tile_build import begin_tiles, build_row_block, finish_tiles
from oocml.data.tiles import Tiles, tiles_path
from oocml.engine.executors import Executor
from oocml.engine.kept_columns import kept_order
from oocml.engine.malloc import give_back_memory
from oocml.errors import RunBusy
from oocml.schedule.layout import Layout
from oocml.store.run import TILE_NNZ, RunStore

WAIT_S = 0.5


def make_tiles(run: RunStore, executor: Executor) -> None:
    """Cut the run's dataset into tiles, unless that was done before; the run keeps how many entries each has."""
    dataset, layout = Dataset.open(run.config["dataset"]), Layout.from_dict(run.config["layout"])
    path = tiles_path(dataset, layout.row_panels, layout.col_bounds)
    if not os.path.exists(path):
        _make(run, dataset, layout, executor)
    run.hold(TILE_NNZ, Tiles.open(path).nnz)


def _make(run: RunStore, dataset: Dataset, layout: Layout, executor: Executor) -> None:
    while True:
        try:
            build = begin_tiles(dataset, layout.row_panels, layout.col_bounds, kept_order(run))
            break
        except RunBusy:  # another training of the same data makes them just now
            time.sleep(WAIT_S)
    try:
        for _ in executor.map(build_row_block, build.messages):
            pass
        finish_tiles(build)
    finally:
        build.release()
        give_back_memory()  # the order of columns was here: 40 MiB for 64 M of them
