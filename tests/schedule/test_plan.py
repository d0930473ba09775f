"""Plans keep to the memory given or say what would do; workers never change the layout."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from oocml.data.specs import load_spec
from oocml.engine.start import problem_of_spec
from oocml.errors import DoesNotFit
from oocml.models.protocol import Pass, Problem, Scratch, StateSpec
from oocml.models.registry import load_model
from oocml.schedule.affordable import choose_layout
from oocml.schedule.cost import PanelSizes, Sizes
from oocml.schedule.crew import MIB
from oocml.schedule.panel_layout import Pins
from oocml.schedule.plan import make_plan


class Shapes:
    """As much of a model as a plan looks at."""

    name = "shapes"
    tiles = False
    kernels: dict = {}

    def __init__(self, n_cols, block_cols, states, both):
        self.n, self.block_cols = n_cols, block_cols
        self.states = states
        written = tuple(
            spec.name for spec in states if spec.kind in ("col", "cell", *(("row",) if both else ()))
        )
        read = tuple(spec.name for spec in states)
        scratch = (Scratch("work", ("cols",)),)
        self.passes = (
            Pass("update", "tiles", "k", reads=read, writes=written, data=True, scratch=scratch),
            Pass("fold", "rows", "k", reads=("cell", "row"), writes=("row",)),
        )

    def n_cols(self, problem):
        return self.n

    def state(self, problem):
        return self.states

    def epoch_passes(self, problem):
        return self.passes

    def other_passes(self, problem):
        return (Pass("scale", "cols", "k", reads=("col",), writes=("col",)),)


@st.composite
def cases(draw):
    multiple = draw(st.sampled_from([1, 8, 32]))
    states = (
        StateSpec("col", "col", ("features", "cols"), "float32", "weights"),
        StateSpec("row", "row", ("rows", draw(st.sampled_from([1, 30]))), "float64", "row state"),
        StateSpec("cell", "cell", ("rows", draw(st.sampled_from([1, 5]))), "float64", "cells"),
    )
    widest = multiple * draw(st.sampled_from([1, 4, 1000]))
    model = Shapes(draw(st.integers(1, 30_000)), (multiple, widest), states, draw(st.booleans()))
    n_panels = draw(st.integers(1, 60))
    rows = np.full(n_panels, draw(st.sampled_from([1, 100, 20_000])))
    panels = PanelSizes(rows, rows * draw(st.integers(20, 400)))
    n_features = draw(st.sampled_from([1, 5_000, 300_000]))
    nnz = int(rows.sum()) * draw(st.integers(1, 50))
    problem = Problem(int(rows.sum()), n_features, nnz, None, None, None, "none", {}, 0)
    return model, problem, panels


memories = st.integers(450, 40_000).map(lambda mib: mib * MIB)


def all_passes(model, problem):
    return (*model.epoch_passes(problem), *model.other_passes(problem))


@given(case=cases(), task_memory=st.integers(1, 4000).map(lambda mib: mib * MIB))
def test_a_layout_keeps_to_the_task_memory_or_is_as_narrow_as_can_be(case, task_memory):
    model, problem, panels = case
    layout, need = choose_layout(model, problem, panels, task_memory)
    sizes = Sizes(model.state(problem), layout, problem)
    assert need == max(sizes.task_bytes(pass_) for pass_ in all_passes(model, problem))
    multiple, widest = model.block_cols
    widths = np.diff(layout.col_bounds)
    assert max(widths) <= widest
    assert all(bound % multiple == 0 for bound in layout.col_bounds[:-1])
    assert set(layout.stripe_bounds) <= set(range(layout.n_col_blocks + 1))
    assert (layout.row_bounds[-1], layout.col_bounds[-1]) == (problem.n_rows, model.n)
    assert min(widths) > 0
    if need > task_memory:
        assert max(np.diff(layout.col_bounds)[: layout.stripe_bounds[1]]) <= multiple
        assert layout.stripe_bounds[1] == 1


@given(case=cases(), memory=memories)
def test_workers_never_change_the_layout(case, memory):
    found = set()
    for workers in (1, 2, 3, 7, 64, 0):
        try:
            plan = make_plan(*case, memory=memory, workers=workers)
        except DoesNotFit:
            continue
        found.add(plan.layout)
        assert plan.bytes_total <= memory
        assert plan.task_bytes <= plan.task_memory
        assert plan.panel_cache_bytes >= 0
        assert plan.block_cache_bytes >= 0
        assert plan.workers == workers
    assert len(found) <= 1


def refusal(*case, **options):
    """What a plan that does not fit says."""
    try:
        make_plan(*case, **options)
    except DoesNotFit as error:
        said = str(error)
    else:
        assume(False)
    assert "\n" not in said
    return said


def size_after(text, message):
    return int(re.search(rf"{text} ([0-9]+)MiB", message).group(1)) * MIB


@given(case=cases(), memory=st.integers(1, 700).map(lambda mib: mib * MIB))
def test_a_refusal_names_a_memory_that_does(case, memory):
    message = refusal(*case, memory=memory, workers=1)
    assert f"--memory is {memory // MIB}MiB" in message
    named = size_after("set --memory to", message)
    assert named > memory
    make_plan(*case, memory=named, workers=1)
    make_plan(*case, memory=named, workers=0)
    if "use --schedule serial" in message:
        make_plan(*case, memory=memory, workers=0)


@given(case=cases(), memory=st.integers(1, 400).map(lambda mib: mib * MIB))
def test_one_process_without_dask_trains_where_no_worker_fits(case, memory):
    message = refusal(*case, memory=memory, workers=0)
    assert "two run at once" not in message
    named = size_after("set --memory to", message)
    plan = make_plan(*case, memory=named, workers=0)
    assert memory < plan.bytes_total <= named
    assert named < size_after("set --memory to", refusal(*case, memory=memory, workers=1))


@given(case=cases(), task_memory=st.integers(1, 20).map(lambda mib: mib * MIB // 2))
def test_a_refused_task_memory_is_named_with_one_that_does(case, task_memory):
    caught = refusal(*case, memory=2**50, workers=2, task_memory=task_memory)
    named = size_after("needs", caught)
    assert named > task_memory
    make_plan(*case, memory=2**50, workers=2, task_memory=named)


@given(case=cases(), memory=memories, workers=st.integers(2, 64))
def test_too_many_workers_are_refused_with_what_they_would_need(case, memory, workers):
    try:
        few = make_plan(*case, memory=memory, workers=1)
    except DoesNotFit:
        assume(False)
    caught = refusal(*case, memory=memory, workers=workers)
    named = size_after("workers need", caught)
    assert named > memory
    more = make_plan(*case, memory=named, workers=workers, task_memory=few.task_memory)
    assert more.layout == few.layout


def advised(message):
    """What each way out that a refusal names would change."""
    ways = {
        r"set --memory to ([0-9]+)MiB and --task-memory to ([0-9]+)MiB": ("memory", "task_memory"),
        r"set --memory to ([0-9]+)MiB(?! and)": ("memory",),
        r"use --workers ([0-9]+)": ("workers",),
        r"lower --task-memory to ([0-9]+)MiB": ("task_memory",),
    }
    for way, names in ways.items():
        if found := re.search(way, message):
            numbers = map(int, found.groups())
            yield {name: n if name == "workers" else n * MIB for name, n in zip(names, numbers, strict=True)}
    if "use --schedule serial" in message:
        yield {"workers": 0}


@settings(max_examples=10)
@given(case=cases(), memory=memories, workers=st.integers(1, 64), again=st.booleans())
def test_all_that_a_refusal_of_workers_advises_helps(case, memory, workers, again):
    asked = {"memory": memory, "workers": workers}
    if again:  # a run that is resumed with less memory has its layout
        try:
            plan = make_plan(*case, memory=2 * memory, workers=1)
        except DoesNotFit:
            assume(False)
        asked |= {"layout": plan.layout, "task_memory": plan.task_memory}
    message = refusal(*case, **asked)
    assume(f"{workers} worker" in message)
    ways = list(advised(message))
    assert ways
    for changes in ways:
        make_plan(*case, **{**asked, **changes})
    if again:
        assert "task-memory" not in message


def test_a_cluster_of_the_callers_own_is_not_told_to_have_fewer_workers():
    model, spec = load_model("mlr"), load_spec("news20")
    case = (model, *problem_of_spec(spec, model, {}, 0))
    asked = {"memory": 400 * MIB, "workers": 4}
    assert "use --workers 1" in refusal(*case, **asked)
    message = refusal(*case, **asked, elsewhere=True)
    assert "set --memory to" in message
    assert "--workers" not in message


def test_pins_that_make_a_task_too_large_are_what_a_refusal_tells_to_leave_out():
    model = load_model("mlr")
    odp, panels = problem_of_spec(load_spec("odp"), model, {}, 0)
    asked = {"memory": 2048 * MIB, "workers": 1}
    message = refusal(model, odp, panels, pins=Pins(col_blocks=2), **asked)
    assert message.endswith("or leave out --col-blocks")
    make_plan(model, odp, panels, **asked)


@given(case=cases(), memory=memories, workers=st.integers(0, 5))
def test_an_existing_layout_is_kept_whatever_the_memory(case, memory, workers):
    try:
        plan = make_plan(*case, memory=memory, workers=workers)
    except DoesNotFit:
        assume(False)
    again = make_plan(
        *case, memory=memory * 3, workers=workers, task_memory=plan.task_memory, layout=plan.layout
    )
    assert again.layout is plan.layout
    assert again.read_bytes_per_epoch <= plan.read_bytes_per_epoch, "more memory, fewer reads"
    assert again.write_bytes_per_epoch == plan.write_bytes_per_epoch


@given(case=cases(), pins=st.builds(Pins, st.integers(1, 9), st.integers(1, 9)))
def test_pins_fix_the_counts_of_blocks(case, pins):
    model, _, panels = case
    try:
        layout = make_plan(*case, memory=2**50, workers=0, pins=pins).layout
    except DoesNotFit:
        assume(False)
    assert layout.n_row_blocks == min(pins.row_blocks, len(panels.rows))
    assert layout.n_col_blocks == layout.n_stripes == min(pins.col_blocks, model.n)


@given(case=cases(), memory=memories)
def test_a_worker_in_the_drivers_process_has_as_many_tasks_as_fit(case, memory):
    plans = {}
    for at_once in (1, 2, 3):
        try:
            plans[at_once] = make_plan(*case, memory=memory, workers=1, at_once=at_once)
        except DoesNotFit:
            assume(False)
    assert plans[1].at_once == 1
    assert plans[2].at_once <= plans[3].at_once <= 3
    assert {plan.layout for plan in plans.values()} == {plans[1].layout}
    assert all(plan.bytes_total <= memory for plan in plans.values())
    for fewer, more in ((1, 2), (2, 3)):
        if plans[more].at_once == fewer:  # another task of the largest size would not have fitted
            caches = plans[fewer].panel_cache_bytes + plans[fewer].block_cache_bytes
            assert plans[fewer].bytes_total - caches + plans[fewer].task_bytes > memory - 3 * max(
                case[2].bytes
            )


def test_little_memory_gives_a_large_model_one_worker_with_wide_blocks():
    """What the processes of two workers would take goes to the tasks of one."""
    specs = (
        StateSpec("col", "col", ("features", "cols"), "float32", "weights"),
        StateSpec("row", "row", ("rows",), "float32", "normaliser"),
        StateSpec("cell", "cell", ("rows", 2), "float32", "a stripe's part of it"),
    )
    model = Shapes(8192, (16, 1024), specs, False)
    task = Problem(50_000, 262_144, 3_000_000, None, None, None, "number", {}, 0)
    panels = PanelSizes(np.full(4, 12_500), np.full(4, 6 * MIB))
    plan = make_plan(model, task, panels, memory=700 * MIB, workers=1, at_once=3)
    assert plan.at_once == 3
    assert plan.layout.col_bounds[1] >= 112
    refused = refusal(model, task, panels, memory=700 * MIB, workers=2)
    assert "2 workers need" in refused
    assert "lower --task-memory" in refused
    less = make_plan(model, task, panels, memory=700 * MIB, workers=2, task_memory=50 * MIB)
    assert less.layout.col_bounds[1] < plan.layout.col_bounds[1]
    roomy = [make_plan(model, task, panels, memory=4096 * MIB, workers=n).layout for n in (1, 2, 3)]
    assert roomy[0] == roomy[1] == roomy[2]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_memory_named_by_a_refusal_is_the_least(workers):
    """Where tasks may hold little, stripes are so many that their parts of the rows outweigh all else."""
    model = load_model("mlr")
    odp, panels = problem_of_spec(load_spec("odp"), model, {}, 0)
    named = size_after("set --memory to", refusal(model, odp, panels, memory=150 * MIB, workers=workers))
    make_plan(model, odp, panels, memory=named, workers=workers)
    with pytest.raises(DoesNotFit):
        make_plan(model, odp, panels, memory=named - MIB, workers=workers)


def test_more_memory_never_reads_and_writes_much_more_of_a_huge_model():
    huge = Problem(211_000_000, 1_300_000, 16_000_000_000, None, None, None, "number", {}, 0)
    specs = (
        StateSpec("col", "col", ("features", "cols"), "float32", "weights"),
        StateSpec("row", "row", ("rows",), "float32", "normaliser"),
        StateSpec("cell", "cell", ("rows", 2), "float32", "a stripe's part of it"),
    )
    model, n_panels = Shapes(33_000, (16, 1024), specs, False), 15_000
    rows = np.diff(np.arange(n_panels + 1) * huge.n_rows // n_panels)
    panels = PanelSizes(rows, np.full(n_panels, 12 * huge.nnz // n_panels))
    plans = [make_plan(model, huge, panels, memory=gib << 30, workers=2) for gib in (4, 8, 16, 32, 64, 128)]
    moved = [plan.read_bytes_per_epoch + plan.write_bytes_per_epoch for plan in plans]
    assert all(b < 1.1 * a for a, b in zip(moved, moved[1:], strict=False)), moved
    short = replace(plans[0], disk_bytes=300 << 30, disk_free_bytes=75 << 30)
    assert short.advice is not None
    assert short.advice.startswith("the run needs 300 GiB of disk, 75.0 GiB are free here")
    assert "25% of the features" in short.advice
