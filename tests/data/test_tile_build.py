"""Tiles appear whole or not at all, with the same bytes whoever made them, in bounded memory."""

import concurrent.futures
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from oocml.data import flat_arrays, tile_build, tile_rows
from oocml.data.column_order import deal_columns
from oocml.data.dataset import Dataset
from oocml.data.synth import synth
from oocml.data.tile_build import (
    begin_tiles,
    build_bytes,
    build_row_block,
    build_tiles,
    finish_tiles,
    missing_row_blocks,
    tiles_disk_bytes,
)
from oocml.data.tiles import Tiles, tiles_path
from oocml.errors import DoesNotFit, InputError, OocmlError, RunBusy
from tests.data.test_synth import digest
from tests.data.tiled import assert_is, even_bounds, random_rows, write

PANELS, COLS = [0, 1, 3, 4], even_bounds(17, 3)


@pytest.fixture
def dataset(tmp_path):
    return write(tmp_path / "d.zarr", random_rows(np.random.default_rng(1), 30, 17), [0, 8, 16, 25, 30])


@pytest.fixture
def wanted(dataset):
    """Digest of tiles that nothing disturbed."""
    path = Path(build_tiles(dataset, PANELS, COLS))
    content = digest(path)
    shutil.rmtree(path.parent)
    return content


def test_row_blocks_may_be_made_in_any_order_by_many_and_twice(dataset, wanted):
    build = begin_tiles(dataset, PANELS, COLS, deal_columns(dataset.feature_nnz, COLS))
    messages = pickle.loads(pickle.dumps([*reversed(build.messages), *build.messages]))
    assert len(pickle.dumps(messages[0])) < 500
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(build_row_block, messages)) == [0, 0, 1, 1, 2, 2]
    assert digest(Path(finish_tiles(build))) == wanted
    assert [entry.name for entry in Path(build.path).parent.iterdir()] == [os.path.basename(build.path)]


def test_what_is_there_is_not_made_again(dataset, wanted):
    path = build_tiles(dataset, PANELS, COLS)
    before = os.stat(path).st_mtime_ns
    again = begin_tiles(dataset, PANELS, COLS)
    assert again.messages == []
    assert missing_row_blocks(path, 3) == []
    assert finish_tiles(again) == path
    assert os.stat(path).st_mtime_ns == before


def test_a_build_goes_on_with_the_row_blocks_that_are_missing(dataset, wanted):
    build = begin_tiles(dataset, PANELS, COLS)
    assert [message.p for message in build.messages] == [0, 1, 2]
    build_row_block(build.messages[1])
    with pytest.raises(InputError, match=r"row blocks \[0, 2\]"):
        finish_tiles(build)
    build.release()
    assert missing_row_blocks(build.path, 3) == [0, 2]
    build = begin_tiles(dataset, PANELS, COLS)
    assert [message.p for message in build.messages] == [0, 2]
    for message in build.messages:
        build_row_block(message)
    assert digest(Path(finish_tiles(build))) == wanted


def test_two_processes_do_not_make_the_same_tiles(dataset):
    build = begin_tiles(dataset, PANELS, COLS)
    with pytest.raises(RunBusy, match="another process"):
        begin_tiles(dataset, PANELS, COLS)
    other = begin_tiles(dataset, PANELS, [0, 17])  # other tiles are another matter
    build.release()
    other.release()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("seed", range(6))
def test_kills_leave_nothing_that_opens_and_change_no_byte(dataset, wanted, monkeypatch, seed):
    rng, left = np.random.default_rng(seed), [0]

    def mortal(function):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return function(*arguments, **options)

        return call

    path, kills = tiles_path(dataset, PANELS, COLS), 0
    with monkeypatch.context() as patched:
        for owner, name in (
            (os, "pwrite"),
            (os, "rename"),
            (np, "savez"),
            (shutil, "rmtree"),
            (flat_arrays, "create"),
            (tile_build, "write_array"),
        ):
            patched.setattr(owner, name, mortal(getattr(owner, name)))
        while True:
            left[0] = int(rng.integers(1, 60))
            try:
                build_tiles(dataset, PANELS, COLS)
                break
            except Killed:
                kills += 1
                if os.path.exists(path):  # killed while it tidied up
                    break
                with pytest.raises(InputError):
                    Tiles.open(path)
                with pytest.raises(InputError):
                    Tiles.open(f"{path}.partial")
    assert kills
    assert digest(Path(build_tiles(dataset, PANELS, COLS))) == wanted


def test_a_killed_process_leaves_its_lock_and_the_rest_is_made(tmp_path):
    synth("news20", tmp_path / "d.zarr", rows=3000, cols=5000, nnz_per_row=30, panel_bytes=20_000)
    dataset = Dataset.open(tmp_path / "d.zarr")
    n, cols = dataset.n_panels, even_bounds(5000, 5)
    path = build_tiles(dataset, range(n + 1), cols)
    content = digest(Path(path))
    shutil.rmtree(path)
    code = (
        "import sys; from oocml.data.dataset import Dataset; from oocml.data.tile_build import build_tiles\n"
        f"build_tiles(Dataset.open(sys.argv[1]), range({n + 1}), {cols})"
    )
    child = subprocess.Popen([sys.executable, "-c", code, dataset.path])
    while child.poll() is None and len(missing_row_blocks(path, n)) > n - 3:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert 0 < len(missing_row_blocks(path, n)) < n
    assert digest(Path(build_tiles(dataset, range(n + 1), cols))) == content


def test_rows_are_cut_a_few_at_a_time_where_blocks_are_many(dataset, wanted, monkeypatch):
    monkeypatch.setattr(tile_rows, "SLICE_COUNTS", 7)
    monkeypatch.setattr(flat_arrays, "CHUNK_BYTES", 40)
    path = build_tiles(dataset, PANELS, COLS)
    assert len(list(Path(path, "blocks", "1", "data", "c").iterdir())) > 3
    tiles = Tiles.open(path)
    columns = tiles.order.columns(0, 17)
    X = random_rows(np.random.default_rng(1), 30, 17)
    for p in range(3):
        for q in range(3):
            of_block = columns[COLS[q] : COLS[q + 1]]
            assert_is(tiles.read(p, q), X[tiles.row_bounds[p] : tiles.row_bounds[p + 1]][:, of_block])


def test_tiles_take_the_disk_that_was_predicted(tmp_path):
    synth("news20", tmp_path / "d.zarr", rows=4000, cols=5000, nnz_per_row=50)
    dataset = Dataset.open(tmp_path / "d.zarr")
    path = build_tiles(dataset, [0, dataset.n_panels], even_bounds(5000, 8))
    on_disk = sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
    predicted = tiles_disk_bytes(dataset.nnz, dataset.n_rows, 8, dataset.n_cols)
    assert predicted <= on_disk <= predicted + 10_000  # Zarr's metadata


def test_a_full_disk_is_said_before_anything_is_written(dataset, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DoesNotFit, match="0MiB free"):
        begin_tiles(dataset, PANELS, COLS)
    monkeypatch.undo()
    build_tiles(dataset, PANELS, COLS)


def test_a_disk_that_fills_up_is_one_line_and_the_build_goes_on_later(dataset, wanted, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    build = begin_tiles(dataset, PANELS, COLS)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(OocmlError, match="the disk is full"):
            build_row_block(build.messages[0])
    build.release()
    assert digest(Path(build_tiles(dataset, PANELS, COLS))) == wanted


def test_memory_is_that_of_a_panel_whatever_the_row_block(tmp_path):
    """One row block of 96 MB in 3 MB panels."""
    synth("news20", tmp_path / "d.zarr", rows=120_000, cols=50_000, nnz_per_row=100, panel_bytes=3 << 20)
    dataset = Dataset.open(tmp_path / "d.zarr")
    assert dataset.n_panels > 25
    cols = even_bounds(50_000, 16)
    build_tiles(dataset, [0, 1], cols)  # everything is compiled and loaded
    build = begin_tiles(dataset, [0, dataset.n_panels], cols)
    process, peak = psutil.Process(), [0]
    before = process.memory_info().rss
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        done = pool.submit(build_row_block, build.messages[0])
        while not done.done():
            peak[0] = max(peak[0], process.memory_info().rss - before)
            time.sleep(0.002)
    done.result()
    finish_tiles(build)
    assert 0 < peak[0] < build_bytes(dataset, 16) < 40e6
