"""Layouts of tiles keep to their memory, and to what rows seen ahead need."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oocml.data.specs import load_spec
from oocml.engine.start import problem_of_spec
from oocml.errors import DoesNotFit
from oocml.models.protocol import Pass, Problem, StateSpec
from oocml.models.registry import load_model
from oocml.schedule.affordable import choose_layout
from oocml.schedule.cost import PanelSizes, Sizes, pass_cost
from oocml.schedule.panel_layout import Pins
from oocml.schedule.plan import make_plan
from oocml.schedule.tile_layout import MAX_COLS, ROWS_PER_LANE, Shape, _seconds, epoch_seconds, tile_layout

MIB = 2**20


class Factors:
    """As much of a model of tiles as a plan looks at."""

    name = "factors"
    tiles = True
    block_cols = (1, 2**31)
    kernels: dict = {}

    def __init__(self, k, *, ahead):
        self.states = (
            StateSpec("U", "row", ("rows", k), "float32", "rows"),
            StateSpec("V", "col", ("cols", k), "float32", "columns"),
            StateSpec("C", "cell", ("rows", k), "float32", "cells"),
        )
        if not ahead:
            self.states = self.states[:2]
        names = tuple(spec.name for spec in self.states)
        consumes = ("C",) if ahead else ()
        reads = ("V",) if ahead else names
        self.passes = (
            Pass(
                "update", "tiles", "k", reads=reads, writes=names, data=True, ahead=ahead, consumes=consumes
            ),
        )

    def n_cols(self, problem):
        return problem.n_features

    def state(self, problem):
        return self.states

    def epoch_passes(self, problem):
        return self.passes

    def other_passes(self, problem):
        return ()


def problem(n_rows, n_features, nnz):
    return Problem(n_rows, n_features, nnz, None, None, None, "number", {}, 0)


def panels(n_rows, nnz):
    n = max(1, -(-nnz * 8 // (8 * MIB)))
    rows = np.diff(np.arange(n + 1) * n_rows // n)
    return PanelSizes(rows, np.full(n, nnz * 8 // n + 24 * n_rows // n, np.int64))


sizes = st.tuples(
    st.integers(1, 2_000_000), st.integers(1, 2_000_000), st.integers(1, 40), st.sampled_from([1, 16, 128])
)


@given(sizes, st.booleans(), st.integers(8, 4096))
def test_a_layout_of_tiles_keeps_to_its_memory_or_is_as_small_as_can_be(size, ahead, mib):
    n_rows, n_features, per_row, k = size
    model, task = Factors(k, ahead=ahead), problem(n_rows, n_features, n_rows * per_row)
    given_panels = panels(n_rows, n_rows * per_row)
    layout, need = choose_layout(model, task, given_panels, mib * MIB)
    measured = Sizes(model.states, layout, task, tiles=True)
    assert need == max(measured.task_bytes(pass_) for pass_ in model.passes)
    assert layout.row_bounds[-1] == n_rows and layout.col_bounds[-1] == n_features
    assert np.ptp(np.diff(layout.col_bounds)) <= 1
    assert layout.n_stripes == layout.n_col_blocks and layout.n_segments <= layout.n_row_blocks
    assert layout.n_segments == layout.n_row_blocks or not ahead
    assert layout.n_lanes == 1 or layout.n_row_blocks >= ROWS_PER_LANE * layout.n_lanes
    if need > mib * MIB:
        assert layout.n_row_blocks == len(given_panels.rows) or layout.n_col_blocks == min(
            MAX_COLS, n_features
        )


def test_more_memory_never_moves_more():
    model, task = Factors(64, ahead=False), problem(10_000_000, 1_000_000, 1_000_000_000)
    moved = []
    for mib in (64, 128, 256, 512, 1024, 4096):
        layout, _ = choose_layout(model, task, panels(task.n_rows, task.nnz), mib * MIB)
        cost = pass_cost(model.passes[0], Sizes(model.states, layout, task, tiles=True))
        moved.append(cost.state_read_bytes + cost.write_bytes)
    assert moved == sorted(moved, reverse=True)


@settings(max_examples=40)
@given(st.tuples(*[st.integers(1, 30)] * 4), st.booleans(), st.sampled_from([1, 16, 128]))
def test_layouts_are_chosen_by_what_their_passes_cost(cuts, ahead, k):
    row_blocks, col_blocks, segments, lanes = cuts
    shape = Shape(
        row_blocks, col_blocks, min(segments, row_blocks), min(lanes, max(1, row_blocks // ROWS_PER_LANE))
    )
    model, task = Factors(k, ahead=ahead), problem(2_000_000, 3_000_000, 20_000_000)
    # many panels: blocks on disk are padded to the largest, which a closed form cannot know
    layout = tile_layout(model, task, panels(task.n_rows, 20 * task.nnz), shape)
    at_once = shape.lanes if ahead else min(shape.segments, col_blocks, 8) / 2
    true = epoch_seconds(model, task, layout, memory=0, at_once=min(4, max(1, at_once)))
    assert _seconds(model, task, shape, 0) == pytest.approx(true, rel=0.15)


def test_row_blocks_are_streamed_past_columns_where_a_pass_changes_both_and_merges_nothing():
    model, task = Factors(64, ahead=False), problem(16_000_000, 16_000_000, 48_000_000)
    given_panels = panels(task.n_rows, task.nnz)
    layout, need = choose_layout(model, task, given_panels, 256 * MIB)
    assert layout.n_segments == 8 < layout.n_row_blocks and need <= 256 * MIB
    cost = pass_cost(model.passes[0], Sizes(model.states, layout, task, tiles=True))
    one_each = dataclasses.replace(layout, segment_bounds=tuple(range(layout.n_row_blocks + 1)))
    other = pass_cost(model.passes[0], Sizes(model.states, one_each, task, tiles=True))
    assert cost.task_bytes == other.task_bytes
    assert cost.write_bytes < 0.8 * other.write_bytes and cost.state_read_bytes < 0.8 * other.state_read_bytes
    pinned, _ = choose_layout(model, task, given_panels, 256 * MIB, Pins(40, 64))
    assert pinned.n_segments == 40
    shared = StateSpec("total", "shared", (4,), "float64", "merged", merge=True)
    model.states = (*model.states, shared)
    model.passes = tuple(dataclasses.replace(p, writes=(*p.writes, "total")) for p in model.passes)
    layout, _ = choose_layout(model, task, given_panels, 256 * MIB)
    assert layout.n_segments == layout.n_row_blocks


class Sampling(Factors):
    """Draws so many columns for every row, in column blocks of its own liking."""

    def epoch_elements(self, problem, col_blocks):
        return problem.n_rows * 500 * 64

    def fewest_col_blocks(self, problem):
        return problem.n_features // 4000


def test_a_model_may_like_narrow_column_blocks_and_tell_how_much_it_computes():
    task = problem(30_000, 41_000, 800_000)
    few, many = (panels(task.n_rows, nnz) for nnz in (task.nnz, 10 * task.nnz))
    layout, _ = choose_layout(Sampling(64, ahead=False), task, few, 512 * MIB)
    assert layout.n_col_blocks == 10
    assert choose_layout(Sampling(64, ahead=False), task, few, 512 * MIB, Pins(1, 3))[0].n_col_blocks == 3
    # long tasks are cut for workers
    layouts = [choose_layout(kind(64, ahead=False), task, many, 512 * MIB)[0] for kind in (Factors, Sampling)]
    assert layouts[0].n_row_blocks < layouts[1].n_row_blocks


@given(st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_pins_fix_the_tiles(rows, cols, ahead):
    model, task = Factors(16, ahead=ahead), problem(4_000_000, 1000, 80_000_000)
    layout, _ = choose_layout(model, task, panels(task.n_rows, task.nnz), 64 * MIB, Pins(rows, cols))
    assert (layout.n_row_blocks, layout.n_col_blocks) == (rows, cols)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_workers_never_change_a_layout_of_tiles(workers):
    model, task = Factors(32, ahead=True), problem(2_000_000, 4_000_000, 80_000_000)
    given_panels = panels(task.n_rows, task.nnz)
    plan = make_plan(model, task, given_panels, memory=4096 * MIB, workers=workers)
    assert plan.layout == make_plan(model, task, given_panels, memory=4096 * MIB, workers=2).layout
    assert plan.bytes_total <= plan.memory


def test_what_does_not_fit_is_refused_with_what_would():
    model, task = Factors(128, ahead=True), problem(2_000_000, 4_000_000, 80_000_000)
    with pytest.raises(DoesNotFit, match="set --memory to"):
        make_plan(model, task, panels(task.n_rows, task.nnz), memory=256 * MIB, workers=1)


@pytest.mark.parametrize("n_features", [64_000_000, 500_000_000])
def test_processes_take_no_memory_for_each_feature(n_features):
    """One number of 8 bytes for every feature would be 488 MiB or 3.7 GiB."""
    model, task = Factors(4, ahead=False), problem(200_000, n_features, 8_000_000)
    plan = make_plan(model, task, panels(task.n_rows, task.nnz), memory=700 * MIB, workers=1)
    assert plan.bytes_total <= 700 * MIB
    assert plan.model_bytes >= 16 * n_features


def test_cutting_panels_counts_where_it_takes_more_than_tasks():
    model, task = Factors(1, ahead=False), problem(1_000_000, 1000, 1_000_000)
    wide = PanelSizes(np.full(4, 250_000), np.full(4, 60 * MIB))
    plan = make_plan(model, task, wide, memory=4096 * MIB, workers=1)
    assert plan.bytes_per_worker >= 2 * 5 * 60 * MIB
    with pytest.raises(DoesNotFit, match="blocks"):
        make_plan(model, task, wide, memory=700 * MIB, workers=1)


def test_what_no_pass_writes_takes_memory_but_no_disk():
    task = problem(100_000, 4_000_000, 2_000_000)
    plain, fixed = Factors(64, ahead=False), Factors(64, ahead=False)
    fixed.states = (*fixed.states, StateSpec("count", "col", ("cols",), "float32", "of columns"))
    fixed.passes = tuple(dataclasses.replace(p, reads=(*p.reads, "count")) for p in fixed.passes)
    one, other = (
        make_plan(model, task, panels(task.n_rows, task.nnz), memory=700 * MIB, workers=1, pins=Pins(2, 40))
        for model in (plain, fixed)
    )
    assert other.task_bytes - one.task_bytes == 4 * 4_000_000 / 40
    for name in ("model_bytes", "disk_bytes", "read_bytes_per_epoch", "write_bytes_per_epoch"):
        assert getattr(one, name) == getattr(other, name) > 0


@pytest.mark.parametrize("memory", [432, 600])
def test_a_training_without_dask_has_the_layout_of_workers_that_fit(memory):
    """It may do with less, and may do more with the same; that is no reason for other bits."""
    model = load_model("mf")
    task, given_panels = problem_of_spec(load_spec("umbc_3b"), model, {}, 0)
    serial, one = (
        make_plan(model, task, given_panels, memory=memory * MIB, workers=workers) for workers in (0, 1)
    )
    assert serial.layout == one.layout
