"""Random layouts, state declarations and passes."""

from hypothesis import strategies as st

from oocml.models.protocol import Pass, StateSpec
from oocml.schedule.layout import Layout

SPECS = {
    spec.name: spec
    for spec in (
        StateSpec("row", "row", ("rows", 3), "float32", "a row array"),
        StateSpec("col", "col", ("features", "cols"), "float32", "a column array"),
        StateSpec("cell", "cell", ("rows",), "float64", "a cell array"),
        StateSpec("shared", "shared", (5,), "float64", "one that a task writes"),
        StateSpec("merged", "shared", (2,), "float64", "one that the driver adds up", merge=True),
    )
}
STORED = {"tiles": tuple(SPECS), "rows": ("row", "shared", "merged"), "cols": ("col", "shared", "merged")}
STORED["once"] = ("shared", "merged")
"""What each kind of pass can write."""


@st.composite
def rising(draw, total, multiple=1):
    """Bounds of at least one part of ``range(total)``."""
    cuts = draw(st.sets(st.integers(1, max(1, total - 1)), max_size=5)) if total > 1 else set()
    return (0, *sorted(cuts), total)


@st.composite
def layouts(draw, max_panels=8, max_cols=12):
    panel_rows = draw(st.lists(st.integers(1, 9), min_size=1, max_size=max_panels))
    row_panels = draw(rising(len(panel_rows)))
    col_bounds = draw(rising(draw(st.integers(1, max_cols))))
    n_row_blocks, n_col_blocks = len(row_panels) - 1, len(col_bounds) - 1
    return Layout(
        row_panels=row_panels,
        row_bounds=tuple(sum(panel_rows[:i]) for i in row_panels),
        col_bounds=col_bounds,
        stripe_bounds=draw(rising(n_col_blocks)),
        segment_bounds=draw(rising(n_row_blocks)),
        row_task_bounds=draw(rising(n_row_blocks)),
        n_lanes=draw(st.integers(1, 3)),
    )


@st.composite
def passes(draw, over=("tiles", "rows", "cols", "once")):
    over = draw(st.sampled_from(over))
    names = st.lists(st.sampled_from(tuple(SPECS)), unique=True, max_size=5)
    writes = draw(st.lists(st.sampled_from(STORED[over]), unique=True, max_size=5))
    sweeps = draw(st.sampled_from([1, 1, 3])) if over == "tiles" else 1
    return Pass(
        "pass", over, "kernel", reads=tuple(draw(names)), writes=tuple(writes), data=True, sweeps=sweeps
    )


seeds = st.integers(0, 2**63 - 1)
