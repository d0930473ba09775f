"""The arithmetic of costs against running every task in the mind, block by block."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oocml.models.protocol import Pass, Problem
from oocml.schedule.cost import Sizes, pass_cost
from oocml.schedule.layout import block_shape, n_blocks, stored_array
from oocml.schedule.tasks import blocks_of, sub_epochs
from tests.schedule.strategies import SPECS, STORED, layouts

N_FEATURES = 4
TOUCHED = {
    "tiles": tuple(SPECS),
    "rows": ("row", "cell", "shared", "merged"),
    "cols": ("col", "shared", "merged"),
    "once": ("col", "shared", "merged"),
}
"""What each kind of pass can read."""


def problem_of(layout):
    n_rows = layout.row_bounds[-1]
    return Problem(n_rows, N_FEATURES, n_rows, np.ones(4, int), np.ones(4), None, "none", {}, 0)


@st.composite
def sensible_passes(draw):
    over = draw(st.sampled_from(sorted(TOUCHED)))
    reads = draw(st.lists(st.sampled_from(TOUCHED[over]), unique=True))
    writes = draw(st.lists(st.sampled_from(STORED[over]), unique=True))
    sweeps = draw(st.sampled_from([1, 3])) if over == "tiles" else 1
    return Pass("pass", over, "kernel", tuple(reads), tuple(writes), data=draw(st.booleans()), sweeps=sweeps)


def enumerate_bytes(pass_, layout, problem, initial):
    """Bytes read and written when every task does what the engine promises; nothing is cached."""
    sizes = {
        (name, index): stored_array(spec, layout, problem).stored_bytes(
            block_shape(spec, layout, problem, index)
        )
        for name, spec in SPECS.items()
        for index in range(n_blocks(spec, layout))
    }
    stored = set() if initial else set(sizes)  # blocks that are not at their initial value
    fresh: set = set()  # stored in this pass
    read = written = 0

    def load(name, index):
        at_hand = (name, index) in (stored | fresh if name in pass_.reads else fresh)
        return sizes[name, index] * at_hand

    for tasks in sub_epochs(pass_, layout, SPECS, seed=1):
        for task in tasks:
            outputs = []
            for name in {*pass_.reads, *pass_.writes}:
                spec = SPECS[name]
                for index in blocks_of(spec, task, layout, all_stripes=pass_.over == "rows"):
                    streamed = spec.kind in ("row", "cell") and pass_.over == "tiles" and name in pass_.reads
                    read += load(name, index) * (pass_.sweeps if streamed else 1)
                    if name in pass_.writes and not spec.merge:
                        outputs.append((name, index))
            written += sum(sizes[block] for block in outputs)
            fresh.update(outputs)
        for name in pass_.writes:
            if SPECS[name].merge:
                read += load(name, 0)
                written += sizes[name, 0]
                fresh.add((name, 0))
    return read, written


@given(pass_=sensible_passes(), layout=layouts(), initial=st.booleans())
def test_bytes_are_those_of_running_every_task(pass_, layout, initial):
    problem = problem_of(layout)
    cost = pass_cost(pass_, Sizes(SPECS.values(), layout, problem), frozenset(SPECS if initial else ()))
    assert (cost.state_read_bytes, cost.write_bytes) == enumerate_bytes(pass_, layout, problem, initial)


@given(pass_=sensible_passes(), layout=layouts())
def test_scans_and_tasks_are_those_of_the_schedule(pass_, layout):
    cost = pass_cost(pass_, Sizes(SPECS.values(), layout, problem_of(layout)))
    tasks = [task for tasks in sub_epochs(pass_, layout, SPECS, seed=1) for task in tasks]
    assert cost.n_tasks == len(tasks)
    visited = sum(len(task.rows) for task in tasks)
    with_data = pass_.over == "tiles" or (pass_.over == "rows" and pass_.data)
    assert cost.data_scans * layout.n_row_blocks == with_data * visited * pass_.sweeps


@given(pass_=sensible_passes(), layout=layouts())
def test_a_task_holds_no_more_than_its_cost_says(pass_, layout):
    problem = problem_of(layout)
    cost = pass_cost(pass_, Sizes(SPECS.values(), layout, problem))
    for tasks in sub_epochs(pass_, layout, SPECS, seed=1):
        for task in tasks:
            held = 0
            for name in {*pass_.reads, *pass_.writes}:
                spec = SPECS[name]
                shapes = [
                    (index, block_shape(spec, layout, problem, index))
                    for index in blocks_of(spec, task, layout, all_stripes=pass_.over == "rows")
                ]
                sizes = {index: math.prod(shape) * np.dtype(spec.dtype).itemsize for index, shape in shapes}
                if spec.kind == "cell" and pass_.over == "rows":  # all stripes of one row block at a time
                    sizes = {
                        p: sum(sizes[p * layout.n_stripes + s] for s in range(layout.n_stripes))
                        for p in task.rows
                    }
                resident = spec.kind == "shared" or (spec.kind == "col" and pass_.over == "tiles")
                held += sum(sizes.values()) if resident else max(sizes.values(), default=0)
            assert held <= cost.task_bytes
